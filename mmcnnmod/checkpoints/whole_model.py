"""A whole MoD model that starts from dense weights: its backbone near identity, the rest as is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import UserError
from .key_styles import networks_in
from .matching import Match, match_state_dicts, mod_backbones
from .warm_start import start_from_dense


def start_model_from_dense(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    prefix: str | None = None,
    **options,
) -> list[str]:
    """Give a model with MoD backbones the weights of a dense one.

    Args:
        model (nn.Module): A classifier, segmentor or detector, initialised; changed in place.
        state_dict (Mapping[str, Tensor]): Of the dense model, or of a dense backbone alone.
        prefix (str, optional): What stands before the dense backbone's names. Defaults to None:
            what stands before them in ``model``, or else found out.
        **options: See :func:`start_from_dense`.

    Returns:
        list[str]: What was done, a line for each backbone and for the rest.

    Raises:
        UserError: If there is no MoD backbone in ``model``, and as :func:`start_from_dense` says.
    """
    backbones = mod_backbones(model)
    if not backbones:
        raise UserError(f'{type(model).__name__} has no MoD backbone to start')
    there = [prefix for _, prefix in networks_in(state_dict)]
    lines = []
    for name, backbone in backbones.items():
        own = f'{name}.'
        chosen = own if prefix is None and own in there else prefix
        lines.append(f'{name}: {start_from_dense(backbone, state_dict, chosen, **options)}')
    return [*lines, keep_the_rest(model, state_dict, tuple(f'{name}.' for name in backbones))]


def keep_the_rest(
    model: nn.Module, state_dict: Mapping[str, Tensor], backbones: tuple[str, ...]
) -> str:
    """Load what is not backbone and has its name and shape in both; says what that was."""
    rest = {k: v for k, v in model.state_dict().items() if not k.startswith(backbones)}
    kept = {k: state_dict[k] for k, v in rest.items() if fits(state_dict.get(k), v)}
    model.load_state_dict(kept, strict=False)
    match = match_state_dicts(rest, state_dict)
    return f'other parts: {describe_rest(match)}'


def fits(tensor: Tensor | None, own: Tensor) -> bool:
    """Whether a checkpoint's tensor can be loaded."""
    return tensor is not None and tensor.shape == own.shape


def describe_rest(match: Match) -> str:
    """What was kept and, by name, what was not and so starts afresh."""
    text = f'{match.matched} of {match.total} tensors kept'
    for what, names in (('not in the checkpoint', match.missing), ('other shape', match.clashing)):
        if names:
            text += f'; fresh, {what}: {", ".join(names)}'
    return text
