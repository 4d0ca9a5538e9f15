"""An MoD network that starts from the weights of a dense one.

Its standard blocks take the weights of dense blocks. Its MoD blocks have no counterpart there:
they stay as they were drawn, but add little at first, so that the network starts as the dense one
without the blocks for which it has no place.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..layers import MoDBlock
from .block_mapping import MAPPINGS, map_blocks, repeated
from .dense_network import DenseNetwork, find_dense_network
from .key_styles import BLOCK, FAMILIES, MOBILENET_V2, RESNET, VGG, Family
from .matching import MAX_CLASHES, Match, match_state_dicts

# How strong a block that the dense network lacks is at first, see docs/warm_start.md.
NEAR_IDENTITY = 0.01
# Of the tensors that every network of the family has; with fewer it is another network.
MIN_SHARE = 0.9


def start_from_dense(
    network: nn.Module,
    state_dict: Mapping[str, Tensor],
    prefix: str | None = None,
    mapping: str = 'first',
    strength: float = NEAR_IDENTITY,
) -> str:
    """Give an MoD network the weights of a dense one; its MoD blocks start near identity.

    Args:
        network (nn.Module): An MoD backbone, initialised; changed in place.
        state_dict (Mapping[str, Tensor]): Of a dense network of its family, alone or in a whole
            model.
        prefix (str, optional): See :class:`DensePretrained`. Defaults to None.
        mapping (str): See :class:`DensePretrained`. Defaults to 'first'.
        strength (float): See :class:`DensePretrained`. Defaults to 0.01.

    Returns:
        str: One line that says what was done.

    Raises:
        UserError: If ``network`` has no MoD blocks or is of a family whose names are not known, if
            no dense network of the family is found, or if its blocks are of another kind or width;
            then nothing has been changed.
    """
    family = check_options(network, mapping, strength)
    dense = find_dense_network(state_dict, family, prefix)
    plan = map_blocks(standard_blocks(network), dense.blocks, mapping)
    own = network.state_dict()
    names = family.common(own)
    check_kind(network, names, dense, plan)

    partners = {name: partner(common, plan) for common, name in names.items()}
    start = {
        name: in_shape_of(own[name], dense.tensors[p])
        for name, p in partners.items()
        if p in dense.tensors
    }
    fresh = tuple(f'{n}.' for n, m in network.named_modules() if isinstance(m, MoDBlock))
    plain = {
        name: own[name]
        for common, name in names.items()
        if family.plain.fullmatch(common) and not name.startswith(fresh)
    }
    match = match_state_dicts(plain, start)
    check_match(network, dense, match, plain, start)
    check_all_is_used(network, dense, plan, set(partners.values()))

    network.load_state_dict(
        {name: t for name, t in start.items() if t.shape == own[name].shape}, strict=False
    )
    weaken_new_blocks(network, plan, strength)
    return summary(network, dense, plan, mapping, match)


def standard_blocks(network: nn.Module) -> list[list[tuple[int, str]]]:
    """For each stage the places and names of the blocks that are neither MoD nor skipped."""
    return [
        [
            (place, name)
            for place, name in enumerate(names)
            if not isinstance(network.get_submodule(name), (MoDBlock, nn.Identity))
        ]
        for names in network.blocks_of_stages()
    ]


def partner(name: str, plan: Mapping[str, str]) -> str | None:
    """The common name that a tensor's counterpart has in the dense network, if it has one."""
    match = BLOCK.fullmatch(name)
    if match is None:
        return name
    block = plan.get(match[1])
    return None if block is None else f'{block}.{match[4]}'


def in_shape_of(own: Tensor, tensor: Tensor) -> Tensor:
    """A tensor in another's shape, where these differ in dimensions of one element only.

    A linear layer on channels is a 1x1 convolution, and torchvision's layer scale is a map.
    """
    same = [n for n in own.shape if n != 1] == [n for n in tensor.shape if n != 1]
    return tensor.reshape(own.shape) if same else tensor


@torch.no_grad()
def weaken_new_blocks(network: nn.Module, plan: Mapping[str, str], strength: float) -> None:
    """Let the blocks that the dense network does not have add little.

    These are the MoD blocks, and standard blocks whose dense block stands in the network already.
    """
    for module in network.modules():
        if isinstance(module, MoDBlock):
            module.start_near_identity(strength)
    for name in repeated(plan):
        for parameter in end_of_branch(network.get_submodule(name)):
            parameter.mul_(strength)


def end_of_branch(block: nn.Module) -> list[nn.Parameter]:
    """The parameters that scale what a standard block adds to its shortcut."""
    if getattr(block, 'gamma', None) is not None:  # ConvNeXt's layer scale
        return [block.gamma]
    # The last norm of a bottleneck, of a basic block; ConvNeXt V2 ends with a convolution.
    last = next(name for name in ('norm3', 'norm2', 'pointwise_conv2') if hasattr(block, name))
    return list(getattr(block, last).parameters())


def check_options(network: nn.Module, mapping: str, strength: float) -> Family:
    """Refuse what cannot start from dense weights, and unknown options; gives the family."""
    name = type(network).__name__
    skips = getattr(network, 'skip_bound', False)
    if not skips and not any(isinstance(module, MoDBlock) for module in network.modules()):
        raise UserError(f"{name} has no MoD blocks; start it with type='Pretrained'")
    family = FAMILIES.get(getattr(network, 'family', None))
    if family is None:
        raise UserError(
            f'{name} cannot start from dense weights: that is known of the MoD versions of '
            f'{", ".join(FAMILIES)}'
        )
    if mapping not in MAPPINGS:
        raise UserError(f'unknown mapping {mapping!r}; choose from {", ".join(MAPPINGS)}')
    if not strength > 0:
        raise UserError(f'strength must be positive, or the MoD blocks never learn; got {strength}')
    return family


def check_kind(
    network: nn.Module,
    names: Mapping[str, str],
    dense: DenseNetwork,
    plan: Mapping[str, str],
) -> None:
    """Refuse a checkpoint with other blocks, with another form of stem, or with too few layers."""
    if dense.family in (VGG, MOBILENET_V2) and repeated(plan):
        raise UserError(
            f'{describe(network)} has more standard blocks in a stage than this {dense}; give the '
            'weights of one as deep, or placement and mod_stages with fewer standard blocks'
        )
    if dense.family is not RESNET:
        return
    bottlenecks = any(name.endswith('conv3.weight') for name in names)
    if bottlenecks != dense.bottlenecks:
        depths = '50, 101 or 152' if bottlenecks else '18 or 34'
        raise UserError(f'{describe(network)} needs a dense ResNet-{depths}, this is a {dense}')
    deep = 'stem.0.conv.weight' in names
    if deep != dense.deep_stem:
        forms = ('one convolution', 'three convolutions (V1c, V1d)')
        raise UserError(
            f'{describe(network)} has a stem of {forms[deep]}, this {dense} one of '
            f'{forms[dense.deep_stem]}; give a checkpoint with the same'
        )


def check_match(
    network: nn.Module, dense: DenseNetwork, match: Match, own: Mapping, start: Mapping
) -> None:
    """Refuse a checkpoint that fills little of what all networks of the family have."""
    if (
        match.matched >= MIN_SHARE * match.total
        and len(match.clashing) <= MAX_CLASHES * match.total
    ):
        return
    text = f'{describe(network)} and this {dense} differ: {match}'
    if match.clashing:
        name = match.clashing[0]
        shapes = ['x'.join(map(str, tensors[name].shape)) for tensors in (own, start)]
        text += f', which is {shapes[0]} here and {shapes[1]} there'
    raise UserError(f'{text}; give a checkpoint of the same widths and norms')


def check_all_is_used(
    network: nn.Module, dense: DenseNetwork, plan: Mapping[str, str], used: set[str | None]
) -> None:
    """Refuse a checkpoint of which a block has layers, such as norms, that the network has not."""
    starting = set(plan.values())
    left = [
        name
        for name in dense.tensors
        if (match := BLOCK.fullmatch(name))
        and match[1] in starting
        and dense.family.plain.fullmatch(name)
        and name not in used
        and not name.endswith('num_batches_tracked')
    ]
    if left:
        raise UserError(
            f'this {dense} has {len(left)} tensors in its blocks, such as {left[0]}, for which '
            f'{describe(network)} has no place; give a checkpoint of the same kind of blocks'
        )


def describe(network: nn.Module) -> str:
    """How errors and the log call a network."""
    return ' '.join(map(str, filter(None, [type(network).__name__, getattr(network, 'depth', '')])))


def summary(
    network: nn.Module,
    dense: DenseNetwork,
    plan: Mapping[str, str],
    mapping: str,
    match: Match,
) -> str:
    """One line on what came from where and what is fresh."""
    blocks = [
        ' '.join(str(stage.index(block)) for block in plan.values() if block in stage)
        for stage in dense.blocks
    ]
    shown = ' | '.join(filter(None, blocks))
    again = len(repeated(plan))
    near = f', {again} of them near identity' if again else ''
    fresh = sum(isinstance(module, MoDBlock) for module in network.modules())
    text = (
        f'{match.matched} tensors of a {dense} start {describe(network)}; its standard blocks are '
        f'dense blocks {shown} ({mapping!r}){near}; {fresh} MoD blocks are fresh'
    )
    if not match.complete:
        names = (*match.missing, *match.clashing)
        text += f', and {len(names)} tensors such as {names[0]}'
    return text
