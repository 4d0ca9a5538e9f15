"""Where a model's config has its backbones."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from ..config_types import type_str
from ..toolboxes import MINIMUM_VERSIONS, mod_versions

Node = MutableMapping


@dataclass(frozen=True)
class BackboneRef:
    """A node of the config that builds a backbone.

    Attributes:
        path (str): Where it stands, such as 'model.backbone'.
        node (Node): The node itself.
        parents (tuple[tuple[str, Node], ...]): The nodes around it and their paths, from the
            innermost to the model.
        old (type): The class that it names.
        new (type | None): The MoD version of that class, None if it is MoD already.
        name (str): How the config is to name the MoD class.
    """

    path: str
    node: Node
    parents: tuple[tuple[str, Node], ...]
    old: type
    new: type | None
    name: str

    @property
    def is_teacher(self) -> bool:
        """Whether it is the network that a student learns from, by its path."""
        return any(part.startswith('teacher') for part in self.path.split('.'))


def find_backbones(cfg: Node) -> Iterator[BackboneRef]:
    """All nodes of ``cfg.model`` that build a backbone that is MoD or has an MoD version."""
    versions = mod_versions()
    mod = {new for _, new in versions.values()}
    names = {cls.__name__ for cls in (*versions, *mod)}
    scope = scope_of(cfg)
    for path, node, parents in iter_dicts(cfg.get('model'), 'model'):
        old = class_of(node.get('type'), scope, names)
        if old in mod:
            yield BackboneRef(path, node, parents, old, None, type_str(node))
        elif old in versions:
            toolbox, new = versions[old]
            # A name with a scope keeps one; 'ResNet' of another toolbox has to get one.
            bare = toolbox == scope and '.' not in type_str(node)
            name = new.__name__ if bare else f'{toolbox}.{new.__name__}'
            yield BackboneRef(path, node, parents, old, new, name)


def scope_of(cfg: Node) -> str | None:
    """The toolbox that a config is for; new-style ones tell it by their model's class only."""
    package = type_str(cfg.get('model') or {}).partition('.')[0]
    return cfg.get('default_scope') or (package if package in MINIMUM_VERSIONS else None)


def iter_dicts(node, path: str, parents: tuple = ()) -> Iterator[tuple[str, Node, tuple]]:
    """Nested dicts, each with its path and with the dicts around it."""
    if isinstance(node, MutableMapping):
        yield path, node, parents
        for key in list(node):
            yield from iter_dicts(node[key], f'{path}.{key}', ((path, node), *parents))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from iter_dicts(value, f'{path}.{i}', parents)


def class_of(kind, scope: str | None, names: set[str]) -> type | None:
    """The class that a ``type`` in a config means; None unless its name is among ``names``."""
    if isinstance(kind, type):
        return kind
    if not isinstance(kind, str) or kind.rsplit('.', 1)[-1] not in names:
        return None
    from mmengine.registry import MODELS

    with MODELS.switch_scope_and_registry(scope) as registry:
        try:
            return registry.get(kind)
        except RuntimeError:  # some versions of mmengine return None
            return None
