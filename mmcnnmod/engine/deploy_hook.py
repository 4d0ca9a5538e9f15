"""Testing the deployed network."""

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
    copy is made after the checkpoint has been loaded and EMAHook has put its weights in place. It
    is the model alone, without the wrapper of several processes. The runner gets its own model back
    when the test is over, so that EMAHook, which goes by the order of parameters, finds them all.

    Raises:
        UserError: If the model has no MoD backbone.
    """

    priority = 'VERY_LOW'

    def before_test_epoch(self, runner: Runner) -> None:
        """Put the deployed copy in the model's place."""
        self.model = runner.model
        while is_model_wrapper(runner.model):
            runner.model = runner.model.module
        runner.model = deepcopy(runner.model)
        switch_to_deploy(runner.model)
        blocks = sum(isinstance(part, DeployedMoDBlock) for part in runner.model.modules())
        runner.logger.info(f'testing the deployed form, with {blocks} MoD blocks')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Put the model back."""
        runner.model = self.model
