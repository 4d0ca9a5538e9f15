"""The base of all families: the MoD options, and replacing blocks by MoD blocks."""

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
# Options removed in 0.2.0. For each: the values that equal today's behaviour, and the remedy.
REMOVED = {
    'last_activation': (('before',), 'remove it: the activation comes before the scores'),
    'order': (('score',), 'remove it: channels enter the Conv-Block by their scores'),
    'zero_init': ((False,), 'for a network without its MoD blocks set skip_bound=True'),
    'backend': ((None, 'auto'), f'remove it; {FOR_SPEED}'),
}


class MoDBackbone:
    """Mixin that replaces blocks of a toolbox's backbone by MoD blocks.

    It comes before the toolbox's class in the bases. The toolbox builds its network as usual, then
    the blocks that the placement rule selects are replaced. The toolbox's own ``forward`` runs the
    network. A family implements four methods: :meth:`blocks_of_stages`, :meth:`default_c`,
    :meth:`keeps_shape` and :meth:`conv_block`; docs/adding_a_family.md has an example.

    Args:
        c (int, optional): The divisor in k = C // c, the number of processed channels. Defaults to
            None: the input width of the network's first block in all stages, as in the paper
            (Section 3.2): 64 for ResNet and VGG, 16 for MobileNetV2.
        r (int): Reduction inside the selectors. Defaults to 16 (Section 3.1).
        position (str): The processed channels join the 'first' k, the 'last' k (Table 8) or their
            'original' channels (Table 10). Defaults to 'first'.
        fusion (str): 'add' or 'replace' (Section 3.3). Defaults to 'add'.
        selection (str): 'topk', or 'random' without selectors (Table 1, "MoD50 rand.").
            Defaults to 'topk'.
        placement (str): 'alternate', every second block of a stage, or 'every' block that keeps
            its input's shape (Section 3.4). Defaults to 'alternate'.
        mod_stages (Sequence[int], optional): Stages that get MoD blocks, counted from 0 as in
            ``out_indices``. Defaults to None, all of them.
        skip_bound (bool): For experiments: use ``nn.Identity`` in place of each MoD block, which
            shows what the standard blocks do alone. Defaults to False.
        **kwargs: The arguments of the toolbox's class, with their meanings and defaults.

    Raises:
        ValueError: For an unknown option or stage, for a ``c`` or ``r`` that is not a positive
            integer, and if no channel is left (C // c = 0 or C // r = 0). The message names the
            stage, its width and c.
    """

    # The name of the family in checkpoints/key_styles.py, which knows other projects' tensor names.
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
        # A string such as 'no' would be true.
        check_choice(type(self).__name__, 'skip_bound', skip_bound, (False, True))
        super().__init__(*args, **kwargs)
        self.c = self.default_c() if c is None else c
        self.skip_bound = skip_bound
        self.mod_options = dict(r=r, position=position, fusion=fusion, selection=selection)
        self.insert_mod_blocks(placement, mod_stages)
        # MoD blocks check their options, but a network may have none.
        check_mod_options(type(self).__name__, self.c, **self.mod_options)
        # Some toolboxes freeze in the constructor, before MoD blocks are inserted. Others freeze in
        # `train()`, which is too late for DDP.
        self._freeze_stages()

    def blocks_of_stages(self) -> list[list[str]]:
        """The names of the blocks of each stage, such as 'layer1.0'.

        Within a stage, nothing else may read the output of a block than the next block, because a
        deployed MoD block overwrites its input.
        """
        raise NotImplementedError

    def default_c(self) -> int:
        """The input width of the blocks of the first stage."""
        raise NotImplementedError

    def keeps_shape(self, block: nn.Module) -> bool:
        """Whether a standard block keeps the shape of its input."""
        raise NotImplementedError

    def conv_block(self, block: nn.Module) -> tuple[int, Callable[[int], nn.Module]]:
        """The width of a standard block, and a builder of its narrow copy for k channels."""
        raise NotImplementedError

    def insert_mod_blocks(self, rule: str, stages: Sequence[int] | None) -> None:
        """Replace the blocks that the placement rule selects, see :class:`Placement`."""
        names = self.blocks_of_stages()
        placement = Placement(rule, stages, num_stages=len(names))
        for stage, names_of_stage in enumerate(names):
            shapes = [self.keeps_shape(self.get_submodule(name)) for name in names_of_stage]
            for i in placement.positions(stage, shapes):
                block = self.get_submodule(names_of_stage[i])
                new = self.make_mod_block(block, f'{type(self).__name__} stage {stage}')
                self.replace_block(names_of_stage[i], nn.Identity() if self.skip_bound else new)

    def replace_block(self, name: str, block: nn.Module) -> None:
        """Put a block in place of the one with this name."""
        container, _, key = name.rpartition('.')
        setattr(self.get_submodule(container), key, block)

    def make_mod_block(self, block: nn.Module, name: str) -> MoDBlock:
        """The MoD block that replaces a standard block, with the same settings."""
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
        """Initialise the weights as in the toolbox, then load the checkpoints of ``init_cfg``.

        The layers of the selectors are initialised like other linear layers, in most families by
        torch's default. Checkpoints are loaded last, because the initialisation overwrites weights.

        Raises:
            ValueError: If a checkpoint belongs to another network.
        """
        first_time = not self.is_init
        with self.without_init_cfgs(*PRETRAINED, *DENSE) as checkpoints:
            super().init_weights()
        if not first_time:
            return
        for module in self.modules():
            if isinstance(module, MoDBlock):
                module.ensure_trainable_init()
        for cfg in checkpoints:
            if type_name(cfg) in PRETRAINED:
                load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))
            else:
                initialize(self, cfg)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Rename tensors that have other names in other toolboxes, then load them."""
        if self.deploy:
            raise RuntimeError(
                f'{type(self).__name__} was switched to deploy and cannot load a checkpoint; '
                'build the network again, load the checkpoint, then call switch_to_deploy()'
            )
        rename_tensors(state_dict, self, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _freeze_stages(self) -> None:
        """Freeze stages as in the toolbox, except MoD blocks that no checkpoint has initialised.

        Configs freeze stages and norms that come from dense weights. MoD blocks in them are then
        initialised randomly and have to learn.
        """
        super()._freeze_stages()
        if self.init_cfgs(*DENSE) and not self.deploy:
            for module in self.modules():
                if isinstance(module, MoDBlock):
                    module.requires_grad_(True).train(self.training)

    def switch_to_deploy(self) -> None:
        """Convert the backbone for inference. This cannot be undone.

        The BatchNorms of standard and MoD blocks are folded into their convolutions. MoD blocks
        work in place. In ResNets, and on a CPU also in VGGs, each MoD block runs as one operator,
        see :class:`mmcnnmod.ops.DeployedMoDBlock`. Parameters no longer require gradients.
        Training mode and ``load_state_dict`` raise an error.

        The outputs are the same up to rounding. Call this in float32; convert to half precision
        afterwards. If a hook keeps a map between two blocks, the next block overwrites it.
        """
        if self.deploy:
            return
        problems = {}
        for names in self.blocks_of_stages():
            for previous, name in zip([None, *names], names, strict=False):
                block = self.get_submodule(name)
                if isinstance(block, MoDBlock):
                    # A block without weights may return its own input, which others may read.
                    inplace = previous is not None and has_weights(self.get_submodule(previous))
                    deployed = DeployedMoDBlock(block, inplace)
                    self.replace_block(name, deployed)
                    problems.setdefault(deployed.problem, name)
        fold_batch_norms(self)
        self.requires_grad_(False)
        self.deploy = True
        for problem, name in problems.items():
            if problem:
                log_once(f'{name} runs in plain PyTorch, without the operator: {problem}')

    def train(self, mode: bool = True) -> nn.Module:
        """Set training or eval mode, as in the toolbox.

        Raises:
            RuntimeError: For training mode after :meth:`switch_to_deploy`.
        """
        if mode and self.deploy:
            raise RuntimeError(
                f'{type(self).__name__} was switched to deploy, its norms are folded; '
                'to train, build the network again and load its checkpoint'
            )
        super().train(mode)  # returns None in some toolboxes
        return self

    def init_cfgs(self, *types: str) -> list[dict]:
        """The initialisers of these types in ``init_cfg``."""
        cfgs = self.init_cfg if isinstance(self.init_cfg, (list, tuple)) else [self.init_cfg]
        return [cfg for cfg in cfgs if cfg and type_name(cfg) in types]

    @contextmanager
    def without_init_cfgs(self, *types: str) -> Iterator[list[dict]]:
        """Inside the context, remove initialisers of these types from ``init_cfg``; yields them."""
        init_cfg, removed = self.init_cfg, self.init_cfgs(*types)
        if removed:
            cfgs = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
            self.init_cfg = [cfg for cfg in cfgs if cfg not in removed]
        try:
            yield removed
        finally:
            self.init_cfg = init_cfg


def switch_to_deploy(model: nn.Module) -> None:
    """Convert the MoD backbones of a model for inference, in place.

    Load the checkpoint first. See :meth:`MoDBackbone.switch_to_deploy`.

    Args:
        model (nn.Module): A model with one or more MoD backbones, or a backbone.

    Raises:
        ValueError: If it has none.
    """
    backbones = [module for module in model.modules() if isinstance(module, MoDBackbone)]
    if not backbones:
        raise UserError(
            f'{type(model).__name__} has no MoD backbone to switch to deploy; remove this step, or '
            'use a config with one (tools: --mod)'
        )
    for backbone in backbones:
        backbone.switch_to_deploy()


def has_weights(block: nn.Module) -> bool:
    """Whether a block has parameters."""
    return next(block.parameters(), None) is not None


def drop_removed_options(name: str, options: dict) -> None:
    """Drop removed options. Raise a UserError if their value asks for a behaviour that is gone."""
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
