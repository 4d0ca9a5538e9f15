"""Turning the dense weights that a config loads into a warm start."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config_types import PRETRAINED, type_name
from .backbone_refs import BackboneRef, Node, find_backbones

NORM_HOOK = dict(type='ReestimateNormsHook')


@dataclass(frozen=True)
class Weights:
    """Dense weights that a config loads.

    Attributes:
        source (str): The path in the config.
        settings (dict): ``checkpoint``, and ``prefix`` if it is given.
    """

    source: str
    settings: dict

    def __str__(self) -> str:
        return f'{self.source} ({self.settings["checkpoint"]!r})'


def resumes_mod(cfg: Node) -> bool:
    """Whether a config resumes, or its ``load_from`` contains MoD blocks."""
    from ..checkpoints import has_mod_blocks, read_state_dict  # not above: they need mmcv

    if cfg.get('resume'):
        return True
    path = cfg.get('load_from')
    return bool(path) and Path(path).is_file() and has_mod_blocks(read_state_dict(path))


def swap_weights(cfg: Node, ref: BackboneRef, trained: bool, log: Callable[[str], None]) -> None:
    """Turn the dense weights that a backbone starts from into a warm start.

    These are the backbone's own weights (``pretrained``, or ``Pretrained`` in its ``init_cfg``), or
    those of a whole dense model (``load_from``, or the ``init_cfg`` of a model around the
    backbone). The latter are kept for the other parts of the model. If norms are not trained, a
    hook is added that re-estimates their statistics, because the MoD backbone lacks half of the
    dense one.

    Args:
        cfg (Config): The config.
        ref (BackboneRef): The backbone; its node and its parents are changed in place.
        trained (bool): The result of :func:`resumes_mod`.
        log (Callable[[str], None]): Is called with a line for each change.
    """
    own = take_own_weights(ref)
    whole = whole_model_weights(cfg, ref, trained)
    if whole:
        log(f'{whole} is kept: it initialises the other parts, and tensors with the same names')
        # Tensors with the same name are at the same position, so the warm start maps by it, too.
        start_warm(ref, whole, dict(checkpoint=whole.settings['checkpoint'], mapping='same'), log)
    elif own:
        start_warm(ref, own, own.settings, log)
    if trained:
        return
    if whole or own:
        fit_norms(cfg, ref, log)
    elif ref.node.get('frozen_stages', -1) >= 0:
        log(f'warning: {ref.path} has frozen stages without weights; set frozen_stages=-1')


def takes_warm_start(cfg: Node, path: str) -> bool:
    """Whether a node of the config builds an MoD backbone that can start from dense weights."""
    return any(
        ref.path == path and ref.new is None and getattr(ref.old, 'family', None)
        for ref in find_backbones(cfg)
    )


def start_warm(
    ref: BackboneRef, weights: Weights, settings: dict, log: Callable[[str], None]
) -> None:
    """Give the backbone a warm start."""
    ref.node['init_cfg'] = dict(type='DensePretrained', **settings)
    shown = ''.join(f', {key}={value!r}' for key, value in settings.items())
    log(f"{ref.path}.init_cfg: type='DensePretrained'{shown}, from {weights.source}")


def fit_norms(cfg: Node, ref: BackboneRef, log: Callable[[str], None]) -> None:
    """Add the hook if training would not update the norms' statistics."""
    if not ref.node.get('norm_eval', default_of(ref.old, 'norm_eval')):
        return
    hooks = cfg.get('custom_hooks') or []
    if not any(type_name(hook) == NORM_HOOK['type'] for hook in hooks):
        cfg['custom_hooks'] = [*hooks, dict(NORM_HOOK)]
        log(f'custom_hooks: {NORM_HOOK["type"]} added, because of norm_eval=True')


def default_of(cls: type, argument: str):
    """The default of an argument of a class or its bases; None if there is no such argument."""
    signatures = (inspect.signature(base.__init__).parameters for base in cls.__mro__)
    return next((names[argument].default for names in signatures if argument in names), None)


def take_own_weights(ref: BackboneRef) -> Weights | None:
    """Remove a backbone's own dense weights from its config and return them."""
    own = pretrained_init(ref.node, ref.path)
    if own:
        del ref.node['init_cfg']
    path, parent = ref.parents[0]
    holders = [(ref.path, ref.node)]
    if parent.get('backbone') is ref.node and not loads_all_from_pretrained(ref):
        holders.append((path, parent))
    for path, holder in holders:
        if checkpoint := holder.get('pretrained'):
            holder['pretrained'] = None
            own = Weights(f'{path}.pretrained', dict(checkpoint=checkpoint))
    return own


def whole_model_weights(cfg: Node, ref: BackboneRef, trained: bool) -> Weights | None:
    """The dense weights of the outermost model around a backbone, which are loaded last."""
    found = [pretrained_init(node, path) for path, node in ref.parents]
    path, parent = ref.parents[0]
    if parent.get('pretrained') and loads_all_from_pretrained(ref):
        found.append(Weights(f'{path}.pretrained', dict(checkpoint=parent['pretrained'])))
    if cfg.get('load_from') and not trained:
        found.append(Weights('load_from', dict(checkpoint=cfg['load_from'])))
    return next((weights for weights in reversed(found) if weights), None)


def pretrained_init(node: Node, path: str) -> Weights | None:
    """The checkpoint that the ``init_cfg`` of a node loads."""
    init_cfgs = node.get('init_cfg') or []
    for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
        if type_name(init_cfg) in PRETRAINED:
            settings = {key: init_cfg[key] for key in ('checkpoint', 'prefix') if key in init_cfg}
            return Weights(f'{path}.init_cfg', settings)
    return None


def loads_all_from_pretrained(ref: BackboneRef) -> bool:
    """Whether ``pretrained`` next to a backbone belongs to the whole model, as in mmpretrain."""
    return ref.new.__module__.endswith('mmpretrain')
