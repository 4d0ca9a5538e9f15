"""What every family shares: the MoD options, and the swap of a stage's blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mmengine.model import initialize
from torch import nn

from ..checkpoints import refuse_foreign_checkpoints, rename_tensors
from ..layers import MoDBlock, Placement, become_mod_stage, fold_norms

# The names of the class and of its entry in the registry.
PRETRAINED = ('Pretrained', 'PretrainedInit')
DENSE = ('DensePretrained',)


class MoDBackbone:
    """Mixin that turns blocks of a toolbox's own backbone into MoD blocks.

    It stands before the toolbox's class in the bases, so that the toolbox builds its network as it
    always does; then the blocks that the placement rule names are exchanged. A family implements
    four methods: :meth:`blocks_of_stages`, :meth:`default_c`, :meth:`keeps_shape` and
    :meth:`conv_block`; docs/adding_a_family.md works an example.

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
        last_activation (str): 'before' the scores or 'after' the fusion; experimental, as the next
            two, see :class:`MoDBlock`. Defaults to 'before'.
        order (str): Of the k channels: by 'score' or by 'index'. Defaults to 'score'.
        zero_init (bool): Start with each MoD block's last norm at zero. Defaults to False.
        backend (str, optional): How the MoD blocks are computed: 'auto', 'reference', 'eager',
            'triton' or 'native', see :class:`MoDBlock`. Defaults to None, what MMCNNMOD_BACKEND
            says.
        placement (str): 'alternate', every second block of a stage, or 'every' block that keeps
            its input's shape (Section 3.4). Defaults to 'alternate'.
        mod_stages (Sequence[int], optional): Stages that get MoD blocks, counted from 0 as in
            ``out_indices``. Defaults to None, all of them.
        **kwargs: The arguments of the toolbox's own class, with its meanings and defaults.

    Raises:
        ValueError: For an unknown option or stage, a ``c`` or ``r`` that is no positive integer,
            and where no channel is left (C // c = 0 or C // r = 0); it names stage, width and c.
    """

    deploy = False

    def __init__(
        self,
        *args,
        c: int | None = None,
        r: int = 16,
        position: str = 'first',
        fusion: str = 'add',
        selection: str = 'topk',
        last_activation: str = 'before',
        order: str = 'score',
        zero_init: bool = False,
        backend: str | None = None,
        placement: str = 'alternate',
        mod_stages: Sequence[int] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.c = self.default_c() if c is None else c
        self.mod_options = dict(
            r=r,
            position=position,
            fusion=fusion,
            selection=selection,
            last_activation=last_activation,
            order=order,
            zero_init=zero_init,
            backend=backend,
        )
        self.insert_mod_blocks(placement, mod_stages)
        # The toolboxes freeze in their constructors or at the first `train()`; DDP counts the
        # parameters before that.
        self._freeze_stages()

    def blocks_of_stages(self) -> list[list[str]]:
        """For each stage the names of its blocks, such as 'layer1.0'."""
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
                setattr(self.get_submodule(container), key, mod_block)
                become_mod_stage(self.get_submodule(container))

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
        """Initialise as the toolbox does, but refuse a checkpoint of which little matches.

        The selectors' layers are drawn as the toolbox's ``init_cfg`` draws linear layers, in most
        families as torch does.
        Dense weights come last, or the layers' own initialisation would overwrite them.
        """
        first_time = not self.is_init
        with refuse_foreign_checkpoints(self), self.without_init_cfgs(*DENSE) as dense:
            super().init_weights()
        if first_time and not self.init_cfgs(*PRETRAINED):
            for module in self.modules():
                if isinstance(module, MoDBlock):
                    module.start_alive()
        if first_time:
            initialize(self, dense)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Take another toolbox's names for the same tensors; torch calls it before it compares."""
        rename_tensors(state_dict, self.state_dict(), prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _freeze_stages(self) -> None:
        """Freeze as the toolbox does; but what no checkpoint fills has to learn.

        The stages and norms that a config freezes are those that come from dense weights. The MoD
        blocks among them are fresh then: they would stay as they were drawn for ever.
        """
        super()._freeze_stages()
        if self.init_cfgs(*DENSE):
            for module in self.modules():
                if isinstance(module, MoDBlock):
                    module.requires_grad_(True).train(self.training)

    def switch_to_deploy(self) -> None:
        """Fold BatchNorms into convolutions, in standard and MoD blocks; for inference only.

        Named as in mmpretrain's RepVGG. The results are the same but for rounding: fold in float32
        and turn to half precision afterwards. Training mode is refused from then on.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, MoDBlock):
                module.switch_to_deploy()
        fold_norms(self)
        self.deploy = True

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


def type_name(cfg: dict) -> str:
    """The name of a config's type, a class or a text with or without scope or module."""
    kind = cfg['type']
    return kind.__name__ if isinstance(kind, type) else kind.rsplit('.', 1)[-1]


def names_below(network: nn.Module, container: str) -> list[str]:
    """The names of a container's children, as ``get_submodule`` takes them."""
    return [f'{container}.{key}' for key, _ in network.get_submodule(container).named_children()]
