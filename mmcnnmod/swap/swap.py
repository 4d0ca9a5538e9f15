"""Replaces the backbones of a config."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ..config_types import name_types, type_str
from ..errors import UserError, shown
from ..toolboxes import mod_versions
from .backbone_refs import BackboneRef, Node, find_backbones, iter_dicts, scope_of
from .weights import resumes_mod, swap_weights


def swap_backbone(
    cfg: Node, depth: int | None = None, log: Callable[[str], None] = print, **options
) -> Node:
    """Replace the backbones of a config for mmpretrain, mmsegmentation or mmdetection by MoD ones.

    All backbones in ``cfg.model`` that have an MoD version are replaced. The dense weights that
    they start from become a warm start (``DensePretrained``), see
    :func:`mmcnnmod.swap.weights.swap_weights`. The teacher of a distillation keeps its backbone and
    its weights. ``custom_imports`` gets this package, and the classes in new-style configs become
    names, so that a dumped config can be read. A config with MoD backbones is not changed.

    Args:
        cfg (Config): Must have a ``model``, and a ``default_scope`` unless the model's type is a
            class. It is changed in place.
        depth (int, optional): Another depth with the same widths, such as 75 instead of 50.
            Defaults to None: the config's own.
        log (Callable[[str], None]): Receives one line for each change. Defaults to ``print``.
        **options: The MoD options of :class:`mmcnnmod.backbones.MoDBackbone`, such as ``c=32``.

    Returns:
        Config: ``cfg``.

    Raises:
        UserError: If there is no backbone to replace, an option is unknown, or ``load_from``
            cannot be read. ``cfg`` is then unchanged.
    """
    return swap_with(cfg, dict(options, depth=depth), log)


def swap_with(cfg: Node, options: dict, log: Callable[[str], None] = print) -> Node:
    """As :func:`swap_backbone`, with options that may have any name, as from a command line."""
    if options.get('depth', 0) is None:
        options = {name: value for name, value in options.items() if name != 'depth'}
    refs = list(find_backbones(cfg))
    dense = [ref for ref in refs if ref.new and not ref.is_teacher]
    check_backbones(cfg, refs, dense, options)
    trained = resumes_mod(cfg)
    for ref in refs:
        if ref not in dense:
            why = 'a teacher keeps its weights' if ref.new else 'nothing to change'
            log(f'{ref.path} stays {ref.old.__name__}: {why}')
    for ref in dense:
        change(ref, 'type', ref.name, log)
        for key, value in options.items():
            change(ref, key, value, log)
        swap_weights(cfg, ref, trained, log)
    if dense:
        add_custom_import(cfg)
        name_types(cfg)
    return cfg


def change(ref: BackboneRef, key: str, value, log: Callable[[str], None]) -> None:
    """Set a value of a backbone's node."""
    old = type_str(ref.node) if key == 'type' else ref.node.get(key)
    log(f'{ref.path}.{key}: {value}' if old is None else f'{ref.path}.{key}: {old} -> {value}')
    ref.node[key] = value


def check_backbones(
    cfg: Node, refs: list[BackboneRef], dense: list[BackboneRef], options: dict
) -> None:
    """Raise UserError if there is nothing to replace, or if a backbone lacks an option."""
    from ..backbones.mod_backbone import drop_removed_options  # not above: it needs mmcv

    drop_removed_options('MoD', options)
    known = ['depth', *mod_options()]
    for name in options:
        if name not in known:
            raise UserError(f'{shown(name)} is not an MoD option; choose from {", ".join(known)}')
    done = [ref for ref in refs if ref.new is None]
    if not dense and not done:
        if scope_of(cfg) is None:
            raise UserError('the config has no default_scope; set mmpretrain, mmseg or mmdet')
        raise UserError(f'no backbone to swap: {found_instead(cfg)}')
    if not dense and options:
        name = next(iter(options))
        raise UserError(
            f'{done[0].path} is already {done[0].old.__name__}; set {name} in the config or with '
            f'--cfg-options {done[0].path}.{name}=...'
        )
    if 'depth' in options:
        for ref in dense:
            check_depth(ref, options['depth'])


def mod_options() -> list[str]:
    """The names of the options that all MoD backbones have."""
    from ..backbones import MoDBackbone  # not above: it needs mmcv

    parameters = inspect.signature(MoDBackbone.__init__).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY]


def check_depth(ref: BackboneRef, depth: int) -> None:
    """Raise UserError unless a backbone has this depth with its present widths."""
    archs = getattr(ref.new, 'arch_settings', None)
    old = ref.node.get('depth')
    if not isinstance(archs, dict) or old not in archs:
        raise UserError(f'{ref.path}: {ref.new.__name__} has no depth option')
    # The kind of block determines the widths, which necks and heads rely on.
    fitting = [known for known in sorted(archs) if archs[known][0] == archs[old][0]]
    if depth not in fitting:
        depths = ', '.join(map(str, fitting))
        raise UserError(f'{ref.path}: depth {depth} cannot replace {old}; choose from {depths}')


def found_instead(cfg: Node) -> str:
    """For an error: the backbones in a config, and those that can be replaced."""
    dense = sorted({cls.__name__ for cls in mod_versions()})
    found = [
        f'{path} is {type_str(node)}'
        for path, node, _ in iter_dicts(cfg.get('model'), 'model')
        if 'backbone' in path.rsplit('.', 1)[-1] and 'type' in node
    ]
    return (
        f'{", ".join(found) or "the model has none"}; there are MoD versions of {", ".join(dense)}'
    )


def add_custom_import(cfg: Node) -> None:
    """Let a dumped config import this package when it is read."""
    imports = cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    names = imports['imports']
    names = [names] if isinstance(names, str) else names
    cfg['custom_imports'] = {**imports, 'imports': list(dict.fromkeys([*names, 'mmcnnmod']))}
