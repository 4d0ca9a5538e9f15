"""The ``type`` of a node in a config: a name or, in new-style configs, a class or function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

# mmengine's initialiser from a checkpoint: its names in the registry and as a class.
PRETRAINED = ('Pretrained', 'PretrainedInit')


def type_name(node: Mapping) -> str:
    """The name of a node's type, without scope or module; '' if it has none."""
    kind = node.get('type', '')
    return getattr(kind, '__name__', str(kind).rsplit('.', 1)[-1])


def type_str(node: Mapping) -> str:
    """A node's type as a string: a name unchanged, a class with its module."""
    kind = node.get('type')
    return f'{kind.__module__}.{kind.__qualname__}' if is_object(kind) else str(kind)


def name_types(node: object) -> None:
    """Replace the classes and functions under ``type`` in a config by names.

    Names can be compared and dumped to a file. mmengine can do the same, but cannot read all the
    names that it writes: a function of the same name hides the module of
    'mmdet.models.losses.smooth_l1_loss.L1Loss', and mmcv's operators are registered by their last
    name only.

    Args:
        node (object): A config or a part of one; changed in place.
    """
    if isinstance(node, (list, tuple)):
        for value in node:
            name_types(value)
    elif hasattr(node, 'items'):  # a dict or mmengine's Config, which is not a Mapping
        for key, value in list(node.items()):
            if key == 'type' and is_object(value):
                node[key] = readable_name(value) or value
            else:
                name_types(value)


def readable_name(obj: object) -> str | None:
    """A name by which a registry finds a class or function; None if there is none."""
    import mmcv.ops
    from mmengine.utils import get_object_from_string

    if getattr(mmcv.ops, obj.__name__, None) is obj and not registered_name(obj):
        return obj.__name__
    modules = obj.__module__.split('.')
    for depth in range(len(modules), 0, -1):
        name = '.'.join([*modules[:depth], obj.__qualname__])
        if get_object_from_string(name) is obj:
            return name
    return registered_name(obj)


def registered_name(obj: object) -> str | None:
    """The name of a class or function in one of mmengine's registries or their children."""
    from mmengine import registry as registries

    for root in vars(registries).values():
        if isinstance(root, registries.Registry):
            for registry in (root, *root.children.values()):
                for name, registered in registry.module_dict.items():
                    if registered is obj:
                        return f'{registry.scope}.{name}'
    return None


def is_object(value: object) -> bool:
    """Whether a value is a class or a function."""
    return inspect.isclass(value) or inspect.isroutine(value)
