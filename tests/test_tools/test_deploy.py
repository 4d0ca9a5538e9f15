"""tools/test.py --deploy, for each task."""

from pathlib import Path

import pytest

from mmcnnmod.cli import test as testing

from ..utils.tasks import TASKS, newest_json, run_main

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.mark.parametrize('options', [[], ['--tta']], ids=['plain', 'tta'])
def test_deployed_network_has_the_same_score(
    toolbox, trained, tmp_path, in_process, deployed_blocks, options
):
    """With the config that training has written, which needs no options."""
    config, _, _, checkpoint, metric = TASKS[toolbox]
    work_dir, _ = trained(toolbox)
    scores = []
    for deploy in ([], ['--deploy']):
        out = tmp_path / f'out-{len(deploy)}'
        run_main(
            testing, work_dir / Path(config).name, work_dir / checkpoint, '--work-dir', out,
            *options, *deploy,
        )  # fmt: skip
        assert bool(deployed_blocks) is bool(deploy)
        found = newest_json(out)
        scores.append({key: value for key, value in found.items() if key.endswith(metric)})
    assert scores[0]
    assert scores[0] == scores[1]
