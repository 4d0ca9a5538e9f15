"""What every family shares: the MoD options, and the swap of a stage's blocks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mmengine.model import initialize
from torch import nn

from ..checkpoints import load_pretrained, rename_tensors
from ..config_types import PRETRAINED, type_name
from ..errors import UserError
from ..layers import MoDBlock, Placement
from ..layers.checks import check_choice
from ..layers.mod_block import check_mod_options
from ..ops import DeployedMoDBlock, fold_batch_norms, log_once

DENSE = ('DensePretrained',)

FOR_SPEED = 'for speed call mmcnnmod.switch_to_deploy(model) after training, or test with --deploy'
# Options that were removed in 0.2.0: the values that meant what is done now, and the remedy.
REMOVED = {
    'last_activation': (('before',), 'remove it: the activation stands before the scores'),
    'order': (('score',), 'remove it: channels enter the Conv-Block by their scores'),
    'zero_init': ((False,), 'for a network without its MoD blocks set skip_bound=True'),
    'backend': ((None, 'auto'), f'remove it; {FOR_SPEED}'),
}


class MoDBackbone:
    """Mixin that turns blocks of a toolbox's own backbone into MoD blocks.

    It stands before the toolbox's class in the bases, so that the toolbox builds its network as it
    always does; then the blocks that the placement rule names are exchanged. The toolbox's own
    ``forward`` runs the network. A family implements four methods: :meth:`blocks_of_stages`,
    :meth:`default_c`, :meth:`keeps_shape` and :meth:`conv_block`; docs/adding_a_family.md works an
    example.

    Args:
        c (int, optional): k = C // c channels are processed. Defaults to None, the paper's rule:
            the input width of the network's first block, the same in all stages (Section 3.2):
            64 for ResNet and VGG, 16 for MobileNetV2.
        r (int): Reduction inside the selectors. Defaults to 16 (Section 3.1).
        position (str): The processed channels join the 'first' k, the 'last' k (Table 8) or their
            'original' places (Table 10). Defaults to 'first'.
        fusion (str): 'add' or 'replace' (Section 3.3). Defaults to 'add'.
        selection (str): 'topk', or 'random' without selectors (Table 1, "MoD50 rand.").
            Defaults to 'topk'.
        placement (str): 'alternate', every second block of a stage, or 'every' block that keeps
            its input's shape (Section 3.4). Defaults to 'alternate'.
        mod_stages (Sequence[int], optional): Stages that get MoD blocks, counted from 0 as in
            ``out_indices``. Defaults to None, all of them.
        skip_bound (bool): For experiments: an ``nn.Identity`` in the place of each MoD block, so
            that the network shows what the standard blocks do alone. Defaults to False.
        **kwargs: The arguments of the toolbox's own class, with its meanings and defaults.

    Raises:
        ValueError: For an unknown option or stage, a ``c`` or ``r`` that is no positive integer,
            and where no channel is left (C // c = 0 or C // r = 0); it names stage, width and c.
    """

    # By it checkpoints/key_styles.py knows the names that others give the tensors.
    family: str | None = None
    deploy = False

    def __init__(
        self,
        *args,
        c: int | None = None,
        r: int = 16,
        position: str = 'first',
        fusion: str = 'add',
        selection: str = 'topk',
        placement: str = 'alternate',
        mod_stages: Sequence[int] | None = None,
        skip_bound: bool = False,
        **kwargs,
    ) -> None:
        drop_removed_options(type(self).__name__, kwargs)
        # A text such as 'no' would count as true.
        check_choice(type(self).__name__, 'skip_bound', skip_bound, (False, True))
        super().__init__(*args, **kwargs)
        self.c = self.default_c() if c is None else c
        self.skip_bound = skip_bound
        self.mod_options = dict(r=r, position=position, fusion=fusion, selection=selection)
        self.insert_mod_blocks(placement, mod_stages)
        # For a network in which no block can be an MoD block, such as VGG11's first stages.
        check_mod_options(type(self).__name__, self.c, **self.mod_options)
        # The toolboxes freeze in their constructors or at the first `train()`; DDP counts the
        # parameters before that.
        self._freeze_stages()

    def blocks_of_stages(self) -> list[list[str]]:
        """For each stage the names of its blocks, such as 'layer1.0'.

        Each block's input is the output of the one before, and nothing else reads it: a deployed
        MoD block overwrites it.
        """
        raise NotImplementedError

    def default_c(self) -> int:
        """The width that enters the blocks of the first stage."""
        raise NotImplementedError

    def keeps_shape(self, block: nn.Module) -> bool:
        """Whether a standard block's output has its input's shape."""
        raise NotImplementedError

    def conv_block(self, block: nn.Module) -> tuple[int, Callable[[int], nn.Module]]:
        """The width of a standard block, and a builder of its narrow copy for k channels."""
        raise NotImplementedError

    def insert_mod_blocks(self, rule: str, stages: Sequence[int] | None) -> None:
        """Exchange the blocks that the placement rule names, see :class:`Placement`."""
        names = self.blocks_of_stages()
        placement = Placement(rule, stages, num_stages=len(names))
        for stage, names_of_stage in enumerate(names):
            shapes = [self.keeps_shape(self.get_submodule(name)) for name in names_of_stage]
            for i in placement.positions(stage, shapes):
                container, _, key = names_of_stage[i].rpartition('.')
                block = self.get_submodule(names_of_stage[i])
                mod_block = self.make_mod_block(block, f'{type(self).__name__} stage {stage}')
                new = nn.Identity() if self.skip_bound else mod_block
                setattr(self.get_submodule(container), key, new)

    def make_mod_block(self, block: nn.Module, name: str) -> MoDBlock:
        """The MoD block that takes a standard block's place and keeps its settings."""
        width, conv_block = self.conv_block(block)
        return MoDBlock(
            width,
            conv_block,
            c=self.c,
            drop_path=getattr(block, 'drop_path', None),
            with_cp=getattr(block, 'with_cp', False),
            name=name,
            **self.mod_options,
        )

    def init_weights(self) -> None:
        """Initialise as the toolbox does, but refuse a checkpoint of another network.

        The selectors' layers are drawn as the toolbox's ``init_cfg`` draws linear layers, in most
        families as torch does.
        Weights come last, or the layers' own initialisation would overwrite them.
        """
        first_time = not self.is_init
        with self.without_init_cfgs(*PRETRAINED, *DENSE) as weights:
            super().init_weights()
        if not first_time:
            return
        for module in self.modules():
            if isinstance(module, MoDBlock):
                module.ensure_trainable_init()
        for cfg in weights:
            if type_name(cfg) in PRETRAINED:
                load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))
            else:
                initialize(self, cfg)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Take another toolbox's names for the same tensors; torch calls it before it compares."""
        if self.deploy:
            raise RuntimeError(
                f'{type(self).__name__} was switched to deploy and takes no checkpoint any more; '
                'load it into a network that is built anew, then call switch_to_deploy()'
            )
        rename_tensors(state_dict, self, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _freeze_stages(self) -> None:
        """Freeze as the toolbox does; but what no checkpoint fills has to learn.

        The stages and norms that a config freezes are those that come from dense weights. The MoD
        blocks among them are fresh then: they would stay as they were drawn for ever.
        """
        super()._freeze_stages()
        if self.init_cfgs(*DENSE) and not self.deploy:
            for module in self.modules():
                if isinstance(module, MoDBlock):
                    module.requires_grad_(True).train(self.training)

    def switch_to_deploy(self) -> None:
        """Turn the backbone into its form for inference; there is no way back.

        Named as in mmpretrain's RepVGG. The BatchNorms of standard and MoD blocks are folded into
        their convolutions. MoD blocks work in place; those of ResNet, on a CPU also those of VGG,
        are one operator each, see :class:`mmcnnmod.ops.DeployedMoDBlock`. No parameter records
        gradients any more. Training mode and ``load_state_dict`` are refused from then on. The
        outputs are the same but for rounding: fold in float32 and turn to half precision
        afterwards. A hook that keeps a map between two blocks sees it overwritten.
        """
        if self.deploy:
            return
        problems = {}
        for names in self.blocks_of_stages():
            for previous, name in zip([None, *names], names, strict=False):
                block = self.get_submodule(name)
                if isinstance(block, MoDBlock):
                    inplace = previous is not None and makes_a_map(self.get_submodule(previous))
                    deployed = DeployedMoDBlock(block, inplace)
                    container, _, key = name.rpartition('.')
                    setattr(self.get_submodule(container), key, deployed)
                    problems.setdefault(deployed.problem, name)
        fold_batch_norms(self)
        self.requires_grad_(False)
        self.deploy = True
        for problem, name in problems.items():
            if problem:
                log_once(f'{name} runs in plain PyTorch, without the operator: {problem}')

    def train(self, mode: bool = True) -> nn.Module:
        """Training or eval mode, as the toolbox does.

        Raises:
            RuntimeError: For training mode after :meth:`switch_to_deploy`.
        """
        if mode and self.deploy:
            raise RuntimeError(
                f'{type(self).__name__} was switched to deploy, its norms are folded; '
                'to train, build the network again and load its checkpoint'
            )
        super().train(mode)  # which gives nothing in some toolboxes
        return self

    def init_cfgs(self, *types: str) -> list[dict]:
        """What ``init_cfg`` holds of these types of initialisers."""
        cfgs = self.init_cfg if isinstance(self.init_cfg, (list, tuple)) else [self.init_cfg]
        return [cfg for cfg in cfgs if cfg and type_name(cfg) in types]

    @contextmanager
    def without_init_cfgs(self, *types: str) -> Iterator[list[dict]]:
        """Within it, ``init_cfg`` lacks those of these types, which it gives."""
        whole, held = self.init_cfg, self.init_cfgs(*types)
        if held:
            cfgs = whole if isinstance(whole, (list, tuple)) else [whole]
            self.init_cfg = [cfg for cfg in cfgs if cfg not in held]
        try:
            yield held
        finally:
            self.init_cfg = whole


def switch_to_deploy(model: nn.Module) -> None:
    """Turn the MoD backbones of a model into their form for inference, in place.

    Load the checkpoint first. See :meth:`MoDBackbone.switch_to_deploy`.

    Args:
        model (nn.Module): A model with one or more MoD backbones, or a backbone.

    Raises:
        ValueError: If it has none.
    """
    backbones = [module for module in model.modules() if isinstance(module, MoDBackbone)]
    if not backbones:
        raise UserError(
            f'{type(model).__name__} has no MoD backbone to switch to deploy; leave that out, or '
            'give the config one (tools: --mod)'
        )
    for backbone in backbones:
        backbone.switch_to_deploy()


def makes_a_map(block: nn.Module) -> bool:
    """Whether a block gives a map of its own. What has no weights may hand on its input."""
    return any(True for _ in block.parameters())


def drop_removed_options(name: str, options: dict) -> None:
    """Take removed options out; fail if one asks for something else than what is done now."""
    for option in sorted(options.keys() & REMOVED.keys()):
        value, (same, remedy) = options.pop(option), REMOVED[option]
        if value not in same:
            raise UserError(f'{name}: {option}={value!r} was removed in 0.2.0; {remedy}')
        message = f'{name}: the option {option} was removed in 0.2.0 and is ignored; {remedy}'
        log_once(message, logging.WARNING)
    if 'MMCNNMOD_BACKEND' in os.environ:
        log_once(f'MMCNNMOD_BACKEND is ignored since 0.2.0; {FOR_SPEED}', logging.WARNING)


def names_below(network: nn.Module, container: str) -> list[str]:
    """The names of a container's children, as ``get_submodule`` takes them."""
    return [f'{container}.{key}' for key, _ in network.get_submodule(container).named_children()]
