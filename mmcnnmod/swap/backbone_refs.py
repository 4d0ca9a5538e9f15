"""Finds the backbones in a config."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from ..config_types import type_str
from ..toolboxes import MINIMUM_VERSIONS, mod_versions

Node = MutableMapping


@dataclass(frozen=True)
class BackboneRef:
    """A node of a config that builds a backbone.

    Attributes:
        path (str): Its path, such as 'model.backbone'.
        node (Node): The node.
        parents (tuple[tuple[str, Node], ...]): The paths and nodes around it, from the innermost
            to the model.
        old (type): The class of the backbone.
        new (type | None): The MoD version of that class; None if the class is an MoD version.
        name (str): The name of the MoD class in the config.
    """

    path: str
    node: Node
    parents: tuple[tuple[str, Node], ...]
    old: type
    new: type | None
    name: str

    @property
    def is_teacher(self) -> bool:
        """Whether its path shows that it belongs to the teacher of a distillation."""
        return any(part.startswith('teacher') for part in self.path.split('.'))


def find_backbones(cfg: Node) -> Iterator[BackboneRef]:
    """Yield the nodes of ``cfg.model`` that build an MoD backbone or one with an MoD version."""
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
            # A name with a scope keeps it; a backbone of another toolbox needs one.
            bare = toolbox == scope and '.' not in type_str(node)
            name = new.__name__ if bare else f'{toolbox}.{new.__name__}'
            yield BackboneRef(path, node, parents, old, new, name)


def scope_of(cfg: Node) -> str | None:
    """The toolbox of a config; in new-style configs, it may only show in the model's class."""
    package = type_str(cfg.get('model') or {}).partition('.')[0]
    return cfg.get('default_scope') or (package if package in MINIMUM_VERSIONS else None)


def iter_dicts(node, path: str, parents: tuple = ()) -> Iterator[tuple[str, Node, tuple]]:
    """Yield all nested dicts with their paths and parents."""
    if isinstance(node, MutableMapping):
        yield path, node, parents
        for key in list(node):
            yield from iter_dicts(node[key], f'{path}.{key}', ((path, node), *parents))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from iter_dicts(value, f'{path}.{i}', parents)


def class_of(kind, scope: str | None, names: set[str]) -> type | None:
    """The class of a ``type`` in a config; None unless its name is among ``names``."""
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
