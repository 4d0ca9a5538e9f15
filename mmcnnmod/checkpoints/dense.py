"""Initialise an MoD network with the weights of a dense network, see docs/warm_start.md.

Standard blocks get the weights of dense blocks. MoD blocks have no dense counterpart. They keep
their random weights, scaled down so that they add little at first. So the network starts like the
dense one without some of its blocks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from mmengine.model import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from ..errors import UserError
from ..layers import MoDBlock
from .key_styles import (
    BLOCK,
    FAMILIES,
    MOBILENET_V2,
    RESNET,
    VGG,
    Family,
    blocks_of_stages,
    leading_prefix,
    networks_in,
    normal_prefix,
    tensors_under,
)
from .matching import (
    describe_contents,
    has_mod_blocks,
    match_state_dicts,
    mod_backbones,
    named_mod_blocks,
)
from .reading import read_state_dict

# The initial strength of blocks without a dense counterpart, see docs/warm_start.md.
NEAR_IDENTITY = 0.01
# The share of the family's common tensors that must match. With fewer it is another network.
MIN_SHARE = 0.9

# Each function selects a dense block for each standard block of a stage. Its arguments are the
# positions of the standard blocks in the stage (0, 2, 4, ...) and the number of dense blocks.
# The two counts rarely agree: the third stage of ResNet-50 has 6 blocks, the third stages of
# ResNet-50-MoD and ResNet-75-MoD have 3 and 7 standard blocks.
MAPPINGS: dict[str, Callable[[Sequence[int], int], list[int]]] = {
    # In order. The last dense block is repeated if there are too few.
    'first': lambda positions, count: [min(i, count - 1) for i in range(len(positions))],
    # The dense block at the same position, or the last one if there is none.
    'same': lambda positions, count: [min(position, count - 1) for position in positions],
    # The first from the first, the last from the last, the others evenly spaced.
    'spread': lambda positions, count: [
        round(i * (count - 1) / max(len(positions) - 1, 1)) for i in range(len(positions))
    ],
}


@WEIGHT_INITIALIZERS.register_module()
class DensePretrained:
    """``init_cfg=dict(type='DensePretrained', checkpoint='torchvision://resnet50')``.

    Args:
        checkpoint (str): A file, or a URL that mmengine supports (``torchvision://``,
            ``open-mmlab://``, ``https://``). It contains a dense network of the same family, type
            of blocks and widths, alone or in a whole model. docs/warm_start.md lists the depths
            and naming styles.
        prefix (str, optional): The prefix of the network's keys, such as 'backbone.'. Defaults to
            None: it is detected.
        mapping (str): Which dense block initialises each standard block: 'first', 'same' or
            'spread', see ``MAPPINGS``. Defaults to 'first'.
        strength (float): How much the MoD blocks add at first, relative to blocks that are trained
            from scratch. Defaults to 0.01, see docs/warm_start.md.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        mapping: str = 'first',
        strength: float = NEAR_IDENTITY,
    ) -> None:
        self.checkpoint = checkpoint
        self.options = dict(prefix=prefix, mapping=mapping, strength=strength)

    def __call__(self, module: nn.Module) -> None:
        """Initialise an MoD backbone.

        Raises:
            UserError: See :func:`start_from_dense`.
        """
        state_dict = read_state_dict(self.checkpoint)
        try:
            report = start_from_dense(module, state_dict, **self.options)
        except UserError as problem:
            raise UserError(f'DensePretrained {self.checkpoint}: {problem}') from None
        print_log(f'DensePretrained {self.checkpoint}: {report}', logger='current')
        if getattr(module, 'norm_eval', False):
            print_log(
                'norm_eval: the norms keep the statistics of the whole dense network, which do not '
                'fit half of it; ReestimateNormsHook corrects this (docs/warm_start.md)',
                logger='current',
                level=logging.WARNING,
            )
        if hasattr(module, '_params_init_info'):  # mmengine's record of the initialisations
            update_init_info(module, f'DensePretrained: from {self.checkpoint}')


def start_model_from_dense(
    model: nn.Module, state_dict: Mapping[str, Tensor], prefix: str | None = None, **options
) -> list[str]:
    """Initialise a whole model: backbones by :func:`start_from_dense`, other parts by equal keys.

    Args:
        model (nn.Module): A classifier, segmentor or detector, initialised; changed in place.
        state_dict (Mapping[str, Tensor]): The dense model, or only its backbone.
        prefix (str, optional): The prefix of the dense backbone. Defaults to None: the same as in
            ``model``; if the dense network has another prefix, it is detected.
        **options: See :func:`start_from_dense`.

    Returns:
        list[str]: One line for each backbone, and one for the other parts.

    Raises:
        UserError: If ``model`` has no MoD backbone, and see :func:`start_from_dense`.
    """
    backbones = mod_backbones(model)
    if not backbones:
        raise UserError(f'{type(model).__name__} has no MoD backbone to initialise')
    prefixes = [found for _, found in networks_in(state_dict)]
    lines = []
    for name, backbone in backbones.items():
        is_same = prefix is None and f'{name}.' in prefixes
        chosen = f'{name}.' if is_same else prefix
        lines.append(f'{name}: {start_from_dense(backbone, state_dict, chosen, **options)}')
    inside = tuple(f'{name}.' for name in backbones)
    rest = {k: v for k, v in model.state_dict().items() if not k.startswith(inside)}
    load_matching(model, {name: state_dict[name] for name in rest if name in state_dict})
    match = match_state_dicts(rest, state_dict)
    line = f'other parts: {match.matched} of {match.total} tensors kept'
    for what, names in (('not in the checkpoint', match.missing), ('other shape', match.clashing)):
        if names:
            line += f'; fresh, {what}: {", ".join(names)}'
    return [*lines, line]


def start_from_dense(
    network: nn.Module,
    state_dict: Mapping[str, Tensor],
    prefix: str | None = None,
    mapping: str = 'first',
    strength: float = NEAR_IDENTITY,
) -> str:
    """Load the weights of a dense network into an MoD network and scale down its MoD blocks.

    Args:
        network (nn.Module): An MoD backbone, initialised; changed in place.
        state_dict (Mapping[str, Tensor]): A dense network of the same family, alone or in a whole
            model.
        prefix (str, optional): See :class:`DensePretrained`. Defaults to None.
        mapping (str): See :class:`DensePretrained`. Defaults to 'first'.
        strength (float): See :class:`DensePretrained`. Defaults to 0.01.

    Returns:
        str: One line that summarises what was loaded.

    Raises:
        UserError: If ``network`` has no MoD blocks or an unknown family, or if ``state_dict``
            has no dense network of this family, or one with blocks of another type or width. The
            network is not changed then.
    """
    family = check_options(network, mapping, strength)
    dense = find_dense_network(state_dict, family, prefix)
    sources = map_blocks(network, dense, mapping)
    chosen = list(sources.values())
    # Standard blocks whose dense block also initialises an earlier one.
    repeated = [name for i, name in enumerate(sources) if chosen[i] in chosen[:i]]
    own = network.state_dict()
    names = family.common(own)
    check_type(network, names, dense, bool(repeated))

    partners = {name: partner(common, sources) for common, name in names.items()}
    start = {
        name: reshape_like(own[name], dense.tensors[p])
        for name, p in partners.items()
        if p in dense.tensors
    }
    fresh = tuple(f'{name}.' for name in named_mod_blocks(network))
    plain = {
        name: own[name]
        for common, name in names.items()
        if family.plain.fullmatch(common) and not name.startswith(fresh)
    }
    match = match_state_dicts(plain, start, min_share=MIN_SHARE)
    if match.foreign:
        text = f'{describe(network)} and this {dense} differ: {match}'
        if match.clashing:
            shapes = ['x'.join(map(str, t[match.clashing[0]].shape)) for t in (plain, start)]
            text += f', which is {shapes[0]} here and {shapes[1]} there'
        raise UserError(f'{text}; use a checkpoint with the same widths and norms')
    check_all_is_used(network, dense, sources, set(partners.values()))

    load_matching(network, start)
    weaken_new_blocks(network, repeated, strength)
    blocks = [
        ' '.join(str(stage.index(block)) for block in chosen if block in stage)
        for stage in dense.blocks
    ]
    near = f', {len(repeated)} of them near identity' if repeated else ''
    line = (
        f'{match.matched} tensors of a {dense} start {describe(network)}; its standard blocks are '
        f'dense blocks {" | ".join(filter(None, blocks))} ({mapping!r}){near}; {len(fresh)} MoD '
        'blocks are fresh'
    )
    if not match.complete:
        names = (*match.missing, *match.clashing)
        line += f', and {len(names)} tensors such as {names[0]}'
    return line


def load_matching(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors that have the same shape in a module."""
    own = module.state_dict()
    matching = {name: t for name, t in tensors.items() if t.shape == own[name].shape}
    module.load_state_dict(matching, strict=False)


@dataclass(frozen=True)
class DenseNetwork:
    """A dense network with the common names of :mod:`.key_styles`.

    Attributes:
        family (Family): Its family.
        tensors (Mapping[str, Tensor]): Its tensors by common name.
        blocks (list[list[str]]): The names of its blocks, stage by stage.
    """

    family: Family
    tensors: Mapping[str, Tensor]
    blocks: list[list[str]]

    def __str__(self) -> str:
        name, depths = self.family.name, [len(stage) for stage in self.blocks]
        if self.family is RESNET:
            name += f'-{sum(depths) * (3 if resnet_type(self.tensors)[0] else 2) + 2}'
        elif self.family is VGG:
            name += f'-{sum(depths) + 3}'
        return f'{name} of {"+".join(map(str, depths))} blocks'


def find_dense_network(
    state_dict: Mapping[str, Tensor], family: Family, prefix: str | None
) -> DenseNetwork:
    """Find the dense network of a family in a state dict, under any prefix if it is None.

    Raises:
        UserError: If there is none or more than one, or if it has MoD blocks.
    """
    found = family.prefixes(state_dict)
    shown = ', '.join(map(repr, found))
    if not found:
        raise UserError(f'it holds no {family.name}, but {describe_contents(state_dict)}')
    chosen = leading_prefix(found) if prefix is None else normal_prefix(prefix)
    if chosen is None:
        raise UserError(f'it holds {len(found)} {family.name}s: choose one by prefix, of {shown}')
    if chosen not in found:
        raise UserError(f'it holds no {family.name} under the prefix {chosen!r}, but under {shown}')
    inside = tensors_under(state_dict, chosen)
    if has_mod_blocks(inside):
        raise UserError(f"it already holds a {family.name}-MoD: load it with type='Pretrained'")
    tensors = {common: inside[name] for common, name in family.common(inside).items()}
    return DenseNetwork(family, tensors, blocks_of_stages(tensors))


def map_blocks(network: nn.Module, dense: DenseNetwork, mapping: str) -> dict[str, str]:
    """Map the name of each standard block to the dense block that initialises it."""
    sources = {}
    for names, blocks in zip(network.blocks_of_stages(), dense.blocks, strict=False):
        standard = [
            (position, name)
            for position, name in enumerate(names)
            if not isinstance(network.get_submodule(name), (MoDBlock, nn.Identity))
        ]
        chosen = MAPPINGS[mapping]([position for position, _ in standard], len(blocks))
        sources.update({name: blocks[i] for (_, name), i in zip(standard, chosen, strict=True)})
    return sources


def partner(name: str, sources: Mapping[str, str]) -> str | None:
    """The common name of a tensor's counterpart in the dense network, if it has one."""
    match = BLOCK.fullmatch(name)
    if match is None:
        return name
    block = sources.get(match[1])
    return None if block is None else f'{block}.{match[4]}'


def reshape_like(own: Tensor, tensor: Tensor) -> Tensor:
    """Reshape a tensor like ``own`` if they differ only in dimensions of size 1.

    A linear layer on channels is a 1x1 convolution. torchvision's layer scale is a 1x1 map.
    """
    same = [n for n in own.shape if n != 1] == [n for n in tensor.shape if n != 1]
    return tensor.reshape(own.shape) if same else tensor


@torch.no_grad()
def weaken_new_blocks(network: nn.Module, repeated: Iterable[str], strength: float) -> None:
    """Scale down MoD blocks, and standard blocks that repeat a dense block."""
    for mod_block in named_mod_blocks(network).values():
        mod_block.start_near_identity(strength)
    for name in repeated:
        block = network.get_submodule(name)
        if getattr(block, 'gamma', None) is not None:  # ConvNeXt's layer scale
            block.gamma.mul_(strength)
            continue
        # The last norm of a bottleneck or basic block; ConvNeXt V2 ends with a convolution.
        last = next(n for n in ('norm3', 'norm2', 'pointwise_conv2') if hasattr(block, n))
        for parameter in getattr(block, last).parameters():
            parameter.mul_(strength)


def check_options(network: nn.Module, mapping: str, strength: float) -> Family:
    """Return the network's family; raise an error for an unsupported network or option."""
    name = type(network).__name__
    if not getattr(network, 'skip_bound', False) and not named_mod_blocks(network):
        raise UserError(f"{name} has no MoD blocks; start it with type='Pretrained'")
    family = FAMILIES.get(getattr(network, 'family', None))
    if family is None:
        raise UserError(
            f'{name} cannot start from dense weights: this is supported by the MoD versions of '
            f'{", ".join(FAMILIES)}'
        )
    if mapping not in MAPPINGS:
        raise UserError(f'unknown mapping {mapping!r}; choose from {", ".join(MAPPINGS)}')
    if not strength > 0:
        raise UserError(
            f'strength must be positive, or the MoD blocks are never trained; got {strength}'
        )
    return family


def check_type(
    network: nn.Module, names: Collection[str], dense: DenseNetwork, repeats: bool
) -> None:
    """Raise an error if the dense network has another type of block or stem, or too few blocks."""
    if dense.family in (VGG, MOBILENET_V2) and repeats:
        raise UserError(
            f'{describe(network)} has more standard blocks in a stage than this {dense}; use '
            'weights of a deeper network, or placement and mod_stages with fewer standard blocks'
        )
    if dense.family is not RESNET:
        return
    (bottlenecks, deep), (dense_bottlenecks, dense_deep) = map(resnet_type, (names, dense.tensors))
    if bottlenecks != dense_bottlenecks:
        depths = '50, 101 or 152' if bottlenecks else '18 or 34'
        raise UserError(f'{describe(network)} needs a dense ResNet-{depths}, but this is a {dense}')
    if deep != dense_deep:
        forms = ('one convolution', 'three convolutions (V1c, V1d)')
        raise UserError(
            f'{describe(network)} has a stem of {forms[deep]}, but this {dense} one of '
            f'{forms[dense_deep]}; use a checkpoint with the same stem'
        )


def resnet_type(names: Collection[str]) -> tuple[bool, bool]:
    """Whether a ResNet has bottlenecks, and whether its stem has three convolutions (V1c, V1d)."""
    bottlenecks = any(re.fullmatch(r'layer\d+\.\d+\.conv3\.weight', name) for name in names)
    return bottlenecks, 'stem.0.conv.weight' in names


def check_all_is_used(
    network: nn.Module, dense: DenseNetwork, sources: Mapping[str, str], used: set[str | None]
) -> None:
    """Raise an error if dense blocks have layers, such as norms, that the MoD network lacks."""
    starting = set(sources.values())
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
            f'this {dense} has {len(left)} tensors in its blocks, such as {left[0]}, which '
            f'{describe(network)} does not have; use a checkpoint with the same type of blocks'
        )


def describe(network: nn.Module) -> str:
    """A network's class and depth, for errors and the log."""
    depth = getattr(network, 'depth', None)
    return f'{type(network).__name__} {depth}' if depth else type(network).__name__
