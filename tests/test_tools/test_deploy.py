"""tools/test.py --deploy, for each task."""

import pytest

from mmcnnmod.cli import test as testing

from ..utils.tasks import ROOT, TASKS, newest_json, run_main, shrink

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.mark.parametrize('options', [[], ['--tta']], ids=['plain', 'tta'])
def test_deployed_network_has_the_same_score(
    toolbox, trained, data, tmp_path, in_process, deployed_blocks, options
):
    config, name, _, checkpoint, metric = TASKS[toolbox]
    work_dir, _ = trained(toolbox)
    scores = []
    for deploy in ([], ['--deploy']):
        out = tmp_path / f'out-{len(deploy)}'
        run_main(
            testing, ROOT / config, work_dir / checkpoint, '--work-dir', out, '--data-root',
            data / name, *options, *deploy, '--cfg-options', *shrink(toolbox),
        )  # fmt: skip
        assert bool(deployed_blocks) is bool(deploy)
        found = newest_json(out)
        scores.append({key: value for key, value in found.items() if key.endswith(metric)})
    assert scores[0]
    assert scores[0] == scores[1]
