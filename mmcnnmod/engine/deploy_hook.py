"""A hook that tests the deployed form of a network."""

from __future__ import annotations

from copy import deepcopy

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..backbones import switch_to_deploy
from ..ops import DeployedMoDBlock


@HOOKS.register_module()
class DeployHook(Hook):
    """Tests a deployed copy of the model, see :func:`mmcnnmod.switch_to_deploy`.

    In a config: ``custom_hooks = [dict(type='DeployHook')]``, or ``tools/test.py --deploy``. The
    copy is made after the checkpoint has been loaded and EMAHook has swapped in its weights. It
    does not include the wrapper for several processes. The runner gets its own model back after the
    test, because EMAHook then swaps the weights, and relies on the order of the parameters.

    Raises:
        UserError: If the model has no MoD backbone.
    """

    priority = 'VERY_LOW'

    def before_test_epoch(self, runner: Runner) -> None:
        """Replace the model by a deployed copy."""
        self.model = runner.model
        while is_model_wrapper(runner.model):
            runner.model = runner.model.module
        runner.model = deepcopy(runner.model)
        switch_to_deploy(runner.model)
        blocks = sum(isinstance(part, DeployedMoDBlock) for part in runner.model.modules())
        runner.logger.info(f'testing the deployed form, with {blocks} MoD blocks')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Restore the model."""
        runner.model = self.model
