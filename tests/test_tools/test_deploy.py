"""tools/test.py --deploy: the score of the deployed network, for each task."""

import pytest

from mmcnnmod.cli import test as testing
from mmcnnmod.ops import DeployedMoDBlock

from ..utils.tasks import ROOT, TASKS, newest_json, shrink

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.mark.parametrize('options', [[], ['--tta']], ids=['plain', 'tta'])
def test_the_score_is_the_plain_networks(
    toolbox, trained, data, tmp_path, in_process, monkeypatch, options
):
    config, name, _, checkpoint, metric = TASKS[toolbox]
    work_dir, _ = trained(toolbox)
    calls, forward = [], DeployedMoDBlock.forward
    monkeypatch.setattr(
        DeployedMoDBlock, 'forward', lambda self, x: calls.append(self) or forward(self, x)
    )
    scores = []
    for deploy in ([], ['--deploy']):
        out = tmp_path / f'out-{len(deploy)}'
        testing.main([
            str(ROOT / config), str(work_dir / checkpoint), '--work-dir', str(out),
            '--data-root', str(data / name), *options, *deploy, '--cfg-options', *shrink(toolbox),
        ])  # fmt: skip
        assert bool(calls) is bool(deploy)
        found = newest_json(out)
        scores.append({key: value for key, value in found.items() if key.endswith(metric)})
    assert scores[0]
    assert scores[0] == scores[1]
