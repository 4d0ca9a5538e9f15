"""publish_model.py, and its files in the other programs."""

import hashlib
import re

import pytest

from mmcnnmod.checkpoints import read_checkpoint
from mmcnnmod.checkpoints.publishing import SUFFIXES
from mmcnnmod.cli import publish
from mmcnnmod.cli import test as testing
from mmcnnmod.cli import train as training
from mmcnnmod.version import __version__

from ..utils.tasks import ROOT, TASKS, newest_json, run_main, shrink, tail

TOOL = ROOT / 'tools/model_converters/publish_model.py'

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def publish_model(trained, tmp_path, capsys, in_process):
    """Publish the trained segmentor; returns the new file."""
    pytest.importorskip('mmseg')

    def run(name, *options):
        if name.endswith('.safetensors'):
            pytest.importorskip('safetensors')
        checkpoint = trained('mmseg')[0] / TASKS['mmseg'][3]
        run_main(publish, checkpoint, tmp_path / name, *options)
        return tmp_path / capsys.readouterr().out.splitlines()[-1]

    return run


def test_program_writes_weights_and_their_origin(trained, run_python, tmp_path):
    pytest.importorskip('mmseg')
    work_dir, _ = trained('mmseg')
    result = run_python(TOOL, work_dir / TASKS['mmseg'][3], 'fcn.pth', cwd=tmp_path)
    assert result.returncode == 0, tail(result)
    assert 'epoch 0, iteration 2, the weights themselves' in result.stdout
    assert 'metrics: none' in result.stdout
    path = tmp_path / result.stdout.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [path]
    assert path.name == f'fcn-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'

    meta = read_checkpoint(path)['meta']
    assert meta['cfg'] == (work_dir / 'fcn_r18-mod_street-scenes.py').read_text()
    assert (meta['epoch'], meta['iter']) == (0, 2)
    assert list(meta['versions']) == ['mmcnnmod', 'torch', 'mmcv', 'mmengine', 'mmseg']
    assert meta['versions']['mmcnnmod'] == __version__


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_published_checkpoint_has_the_same_score(publish_model, trained, data, tmp_path, suffix):
    """``--metrics`` then adds the score to another published checkpoint."""
    config, name, _, checkpoint, metric = TASKS['mmseg']
    published = publish_model(f'fcn{suffix}')
    scores = []
    for file in (published, trained('mmseg')[0] / checkpoint):
        work_dir = tmp_path / file.stem
        run_main(
            testing, ROOT / config, file, '--work-dir', work_dir, '--data-root', data / name,
            '--cfg-options', *shrink('mmseg'),
        )  # fmt: skip
        scores.append(newest_json(work_dir)[metric])
    assert scores[0] == scores[1] > 0

    json_file = next(tmp_path.glob(f'{published.stem}/*/*.json'))
    again = publish_model(f'scored{suffix}', '--metrics', json_file)
    assert read_checkpoint(again)['meta']['metrics'][metric] == scores[0]


def test_published_checkpoint_starts_a_backbone_of_another_toolbox(publish_model, data, tmp_path):
    pytest.importorskip('mmpretrain')
    config, name, _, checkpoint, _ = TASKS['mmpretrain']
    published = publish_model('fcn.pth')
    run_main(
        training, ROOT / config, '--data-root', data / name, '--work-dir', tmp_path / 'out',
        '--pretrained', published, '--cfg-options', *shrink('mmpretrain'),
        'optim_wrapper.optimizer.lr=0', 'optim_wrapper.optimizer.weight_decay=0',
    )  # fmt: skip
    source = read_checkpoint(published)['state_dict']
    started = read_checkpoint(tmp_path / 'out' / checkpoint)['state_dict']
    parameters = [key for key in source if re.fullmatch(r'backbone\..*(weight|bias)', key)]
    assert len(parameters) > 48
    assert all((source[key] == started[key]).all() for key in parameters)


def test_published_checkpoint_cannot_be_resumed(publish_model, fails, options):
    published = publish_model('fcn.pth')
    line = fails(training.main, ROOT / TASKS['mmseg'].config, '--resume', published, *options)
    assert 'no training state to resume' in line


def test_file_that_is_no_checkpoint(fails):
    assert 'checkpoint no.pth does not exist' in fails(publish.main, 'no.pth', 'a.pth')
    assert 'cannot be read' in fails(publish.main, __file__, 'a.pth')


def test_config_in_the_checkpoint_is_not_run():
    text = 'raise SystemExit\ndefault_scope = "mmseg"\n'
    assert publish.default_scope(text) == 'mmseg'
    assert publish.default_scope('no = python =') is None
    assert publish.default_scope('a = 1') is None
    # Only a known toolbox.
    for name in ("'this'", "'os'", '3', 'print(1)'):
        assert publish.default_scope(f'default_scope = {name}\n') is None
