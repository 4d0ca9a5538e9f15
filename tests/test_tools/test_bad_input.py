"""Mistakes of a user end with one line that names the cause and the remedy, and exit code 1."""

from pathlib import Path

import pytest
import torch

from mmcnnmod.cli import test as testing
from mmcnnmod.cli import train as training

from ..utils.tasks import ROOT, TASKS, arguments, tail

SCENES = ROOT / TASKS['mmseg'].config
MISFIT = 'other.pth does not fit this model: 0 of'

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def other_network(in_process):
    """A checkpoint of another network."""
    torch.save({'state_dict': torch.nn.Linear(3, 4).state_dict(), 'message_hub': {}}, 'other.pth')


def test_missing_data_root(fails):
    line = fails(training.main, SCENES, '--work-dir', 'out')
    assert 'data/street-scenes' in line
    assert '--data-root' in line


def test_missing_annotation_file(fails, data):
    voc = ROOT / TASKS['mmdet'].config
    line = fails(training.main, voc, '--data-root', data / 'scenes', '--work-dir', 'out')
    assert 'VOC2007/ImageSets/Main/train.txt does not exist' in line


@pytest.mark.parametrize(
    ('main', 'arguments'),
    [
        (testing.main, ['no.pth']),
        (training.main, ['--resume', 'no.pth']),
        (training.main, ['--pretrained', 'no.pth']),
    ],
)
def test_missing_checkpoint(fails, options, main, arguments):
    assert 'checkpoint no.pth does not exist' in fails(main, SCENES, *arguments, *options)


def test_damaged_checkpoint(fails, options):
    Path('bad.pth').write_bytes(b'PK\x03\x04 but no more')
    line = fails(testing.main, SCENES, 'bad.pth', *options)
    assert 'checkpoint bad.pth cannot be read' in line


def test_checkpoint_of_another_network(fails, options, other_network):
    assert MISFIT in fails(testing.main, SCENES, 'other.pth', *options)
    assert MISFIT in fails(training.main, SCENES, *options, 'load_from=other.pth')
    line = fails(training.main, SCENES, '--pretrained', 'other.pth', *options)
    assert 'other.pth: it holds no ResNet, but 2 tensors of ' in line


def test_resume_from_another_network(fails, options, other_network):
    Path('out').mkdir()
    Path('out/last_checkpoint').write_text('other.pth')
    line = fails(training.main, SCENES, '--resume', *options)
    assert MISFIT in line
    assert 'it holds 2 tensors of weight, bias; use the config' in line


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.backbone.depth=49', 'unknown depth 49'),
        ('model.backbone.type=ResNetMod', 'ResNetMod is not in the mmseg::model registry'),
        ('model.decode_head.in_channels=2048', 'expects 2048 input channels but gets 512'),
        ('train_dataloader.dataset.type=Cityscape', 'Cityscape is not in the'),
        ('default_scope=mmnone', 'mmcnnmod supports mmpretrain, mmseg, mmdet'),
    ],
)
def test_wrong_settings(fails, options, option, words):
    assert words in fails(training.main, SCENES, *options, option)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU here')
def test_cuda_without_a_gpu(fails, options):
    assert 'torch finds no GPU' in fails(training.main, SCENES, '--device', 'cuda', *options)
    assert 'torch finds no GPU' in fails(training.main, SCENES, '--amp', *options)
    assert 'torch finds no GPU' in fails(testing.main, SCENES, 'x.pth', '--amp', *options)
    line = fails(training.main, SCENES, '--launcher', 'pytorch', *options)
    assert 'env_cfg.dist_cfg.backend=gloo' in line


def test_mixed_precision_optimizer_is_ignored_in_testing(fails, options):
    amp = 'optim_wrapper.type=AmpOptimWrapper'
    assert 'x.pth does not exist' in fails(testing.main, SCENES, 'x.pth', *options, amp)


def test_work_dir_that_cannot_be_written(fails, data):
    Path('file').touch()
    line = fails(training.main, *arguments('mmseg', data, '--work-dir', 'file/below'))
    assert 'work dir file/below cannot be written' in line
    assert '--work-dir' in line


def test_out_item_without_out(fails, options):
    Path('a.pth').touch()
    line = fails(testing.main, SCENES, 'a.pth', '--out-item', 'metrics', *options)
    assert '--out FILE' in line


def test_debug_shows_the_traceback(tmp_path, run_python):
    result = run_python(ROOT / 'tools/train.py', 'nowhere.py', '--debug', cwd=tmp_path)
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1] == 'error: config nowhere.py does not exist', tail(result)


@pytest.fixture
def train_with_broken_package(tmp_path, run_python):
    """Run tools/train.py with another file in place of a package; gives the last line."""
    program = f"""if True:
        import runpy, sys
        sys.argv = {[str(ROOT / 'tools/train.py'), str(SCENES)]}
        runpy.run_path(sys.argv[0], run_name='__main__')
    """

    def run(package, code):
        (tmp_path / f'{package}.py').write_text(code)
        packages = ['mmcv', 'mmengine', 'mmpretrain', 'mmseg', 'mmdet']
        result = run_python('-c', program, cwd=tmp_path, forget=packages)
        assert result.returncode == 1, tail(result)
        assert 'Traceback' not in result.stderr
        last = result.stderr.splitlines()[-1]
        assert last.startswith('error: ')
        return last

    return run


@pytest.mark.parametrize(
    ('code', 'words'),
    [
        ("raise ImportError('_ext.so: undefined symbol: _ZN3c10')", ['rebuild', 'undefined']),
        ("raise AssertionError('MMCV==1.0 is incompatible')", ['matching mmcv']),
        ("raise ModuleNotFoundError('gone', name='mmseg')", ['mmseg is not installed']),
    ],
)
def test_broken_toolbox(train_with_broken_package, code, words):
    line = train_with_broken_package('mmseg', code)
    assert all(word in line for word in words), line


@pytest.mark.parametrize('package', ['mmcv', 'mmengine'])
def test_missing_foundation(train_with_broken_package, package):
    message = f'No module named {package!r}'
    line = train_with_broken_package(package, f'raise ModuleNotFoundError("{message}")')
    _, _, remedy = line.partition(message)
    assert 'mmcv' in remedy
