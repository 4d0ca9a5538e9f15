"""A ResNet-MoD that starts from the weights of a dense ResNet.

Its standard blocks take the weights of dense blocks. Its MoD blocks have no counterpart there:
they stay as they were drawn, but add little at first, so that the network starts as the dense one
without the blocks for which it has no place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..layers import MoDBlock
from .block_mapping import MAPPINGS, map_blocks, repeated
from .dense_resnet import DenseResNet, find_dense_resnet
from .key_styles import BLOCK, common_names
from .matching import MAX_CLASHES, Match, match_state_dicts

# How strong a block that the dense network lacks is at first, see docs/warm_start.md.
NEAR_IDENTITY = 0.01
# Of the tensors that every ResNet has; a checkpoint with fewer is of another network.
MIN_SHARE = 0.9
# Not so are deformable convolutions' offsets and plugins, which a dense network starts afresh too.
PLAIN = re.compile(
    r'(stem\.\d|layer\d\.\d+(\.shortcut)?)?\.?(conv|norm|[bgi]n)\d?'
    r'\.(weight|bias|running_mean|running_var)'
)


def start_from_dense(
    network: nn.Module,
    state_dict: Mapping[str, Tensor],
    prefix: str | None = None,
    mapping: str = 'first',
    strength: float = NEAR_IDENTITY,
) -> str:
    """Give a ResNet-MoD the weights of a dense ResNet; its MoD blocks start near identity.

    Args:
        network (nn.Module): A ResNet-MoD, initialised; changed in place.
        state_dict (Mapping[str, Tensor]): Of a dense ResNet, alone or in a whole model.
        prefix (str, optional): See :class:`DensePretrained`. Defaults to None.
        mapping (str): See :class:`DensePretrained`. Defaults to 'first'.
        strength (float): See :class:`DensePretrained`. Defaults to 0.01.

    Returns:
        str: One line that says what was done.

    Raises:
        UserError: If ``network`` has no MoD blocks, if no dense ResNet is found, or if it is not
            of the network's kind; then nothing has been changed.
    """
    check_options(network, mapping, strength)
    dense = find_dense_resnet(state_dict, prefix)
    plan = map_blocks(standard_places(network), dense.stages, mapping)
    own = network.state_dict()
    names = common_names(own)
    check_kind(network, names, dense)

    partners = {name: partner(common, plan) for common, name in names.items()}
    start = {name: dense.tensors[p] for name, p in partners.items() if p in dense.tensors}
    plain = {name: own[name] for common, name in names.items() if PLAIN.fullmatch(common)}
    match = match_state_dicts(plain, start)
    check_match(network, dense, match, plain, start)

    fitting = {name: t for name, t in start.items() if t.shape == own[name].shape}
    network.load_state_dict(fitting, strict=False)
    weaken_new_blocks(network, plan, strength)
    return summary(network, dense, plan, mapping, match)


def standard_places(network: nn.Module) -> list[list[int]]:
    """For each stage the places of the blocks that are no MoD blocks."""
    stages = [getattr(network, name) for name in network.res_layers]
    return [
        [place for place, block in enumerate(stage) if not isinstance(block, MoDBlock)]
        for stage in stages
    ]


def partner(name: str, plan: Mapping[tuple[int, int], int]) -> str | None:
    """The common name that a tensor's counterpart has in the dense network, if it has one."""
    match = BLOCK.fullmatch(name)
    if match is None:
        return name
    stage, place, rest = int(match[1]), int(match[2]), match[3]
    block = plan.get((stage, place))
    return None if block is None else f'layer{stage}.{block}.{rest}'


@torch.no_grad()
def weaken_new_blocks(
    network: nn.Module, plan: Mapping[tuple[int, int], int], strength: float
) -> None:
    """Let the blocks that the dense network does not have add little.

    These are the MoD blocks, and standard blocks whose dense block stands in the network already.
    """
    for module in network.modules():
        if isinstance(module, MoDBlock):
            module.start_near_identity(strength)
    for stage, place in repeated(plan):
        block = getattr(network, network.res_layers[stage - 1])[place]
        last_norm = block.norm3 if hasattr(block, 'norm3') else block.norm2
        for parameter in last_norm.parameters():
            parameter.mul_(strength)


def check_options(network: nn.Module, mapping: str, strength: float) -> None:
    """Refuse what is no ResNet-MoD, and unknown options."""
    if not hasattr(network, 'res_layers'):
        raise UserError(f'{type(network).__name__} is no ResNet; only those start from dense ones')
    if not any(isinstance(module, MoDBlock) for module in network.modules()):
        name = type(network).__name__
        raise UserError(f"{name} has no MoD blocks; start it with type='Pretrained'")
    if mapping not in MAPPINGS:
        raise UserError(f'unknown mapping {mapping!r}; choose from {", ".join(MAPPINGS)}')
    if not strength > 0:
        raise UserError(f'strength must be positive, or the MoD blocks never learn; got {strength}')


def check_kind(network: nn.Module, names: Mapping[str, str], dense: DenseResNet) -> None:
    """Refuse a checkpoint with other blocks, or with another form of stem."""
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
    network: nn.Module, dense: DenseResNet, match: Match, own: Mapping, start: Mapping
) -> None:
    """Refuse a checkpoint that fills little of what is a plain ResNet in the network."""
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


def describe(network: nn.Module) -> str:
    """How errors and the log call a network."""
    return f'{type(network).__name__} {network.depth}'


def summary(
    network: nn.Module,
    dense: DenseResNet,
    plan: Mapping[tuple[int, int], int],
    mapping: str,
    match: Match,
) -> str:
    """One line on what came from where and what is fresh."""
    blocks = [
        ' '.join(str(block) for (stage, _), block in plan.items() if stage == number)
        for number in sorted({stage for stage, _ in plan})
    ]
    again = len(repeated(plan))
    near = f', {again} of them near identity' if again else ''
    fresh = sum(isinstance(module, MoDBlock) for module in network.modules())
    text = (
        f'{match.matched} tensors of a {dense} start {describe(network)}; its standard blocks are '
        f'dense blocks {" | ".join(blocks)} ({mapping!r}){near}; {fresh} MoD blocks are fresh'
    )
    if not match.complete:
        names = (*match.missing, *match.clashing)
        text += f', and {len(names)} tensors such as {names[0]}'
    return text
