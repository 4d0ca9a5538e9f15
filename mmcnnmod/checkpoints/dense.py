"""The ``init_cfg`` that starts an MoD network from dense weights."""

from __future__ import annotations

import logging

from mmengine.logging import print_log
from mmengine.model import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from ..errors import UserError
from .reading import read_state_dict
from .warm_start import NEAR_IDENTITY, start_from_dense


@WEIGHT_INITIALIZERS.register_module()
class DensePretrained:
    """``init_cfg=dict(type='DensePretrained', checkpoint='torchvision://resnet50')``.

    Args:
        checkpoint (str): A file, or what mmengine fetches (``torchvision://``, ``open-mmlab://``,
            ``https://``). It holds a dense network of the same family, kind of blocks and widths,
            alone or in a whole model; docs/warm_start.md says of which depth, and with whose names
            of tensors.
        prefix (str, optional): What stands before the network's names, such as 'backbone.'.
            Defaults to None: found out.
        mapping (str): Which dense block each standard block starts from: 'first', 'same' or
            'spread', see :mod:`mmcnnmod.checkpoints.block_mapping`. Defaults to 'first'.
        strength (float): How much the MoD blocks add at first, against blocks that start from
            scratch. Defaults to 0.01, see docs/warm_start.md.
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
        """Start an MoD backbone.

        Raises:
            UserError: As :func:`start_from_dense` says.
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
                'fit half of it, unless custom_hooks has ReestimateNormsHook (docs/warm_start.md)',
                logger='current',
                level=logging.WARNING,
            )
        if hasattr(module, '_params_init_info'):  # mmengine's record of who initialised what
            update_init_info(module, f'DensePretrained: from {self.checkpoint}')
