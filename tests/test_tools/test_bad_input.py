"""Expected mistakes: one line that names the thing and the remedy, and exit code 1."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from mmcnnmod.cli import test as testing
from mmcnnmod.cli import train as training

from ..utils.tasks import ROOT, TASKS, shrink, tail

SCENES = str(ROOT / TASKS['mmseg'][0])
# The program, with packages in the current folder.
TRAIN = f"""if True:
    import runpy, sys
    sys.argv = [{str(ROOT / 'tools/train.py')!r}, {SCENES!r}]
    runpy.run_path(sys.argv[0], run_name='__main__')
"""

pytestmark = pytest.mark.filterwarnings('ignore')


def test_missing_config(fails):
    assert 'config nowhere.py does not exist' in fails(training.main, 'nowhere.py')


def test_missing_data_root(fails):
    line = fails(training.main, SCENES, '--work-dir', 'out')
    assert 'data/street-scenes' in line
    assert '--data-root' in line


def test_missing_annotation_file(fails, data):
    voc = ROOT / TASKS['mmdet'][0]
    line = fails(training.main, voc, '--data-root', data / 'scenes', '--work-dir', 'out')
    assert 'VOC2007/ImageSets/Main/train.txt does not exist' in line


def test_missing_checkpoint(fails, options):
    assert 'checkpoint no.pth does not exist' in fails(testing.main, SCENES, 'no.pth', *options)
    line = fails(training.main, SCENES, '--resume', 'no.pth', *options)
    assert 'checkpoint no.pth does not exist' in line
    line = fails(training.main, SCENES, '--pretrained', 'no.pth', *options)
    assert 'checkpoint no.pth does not exist' in line


def test_damaged_checkpoint(fails, options, tmp_path):
    (tmp_path / 'bad.pth').write_bytes(b'PK\x03\x04 but no more')
    line = fails(testing.main, SCENES, 'bad.pth', *options)
    assert 'checkpoint bad.pth cannot be read' in line


def test_checkpoint_of_another_network(fails, options):
    torch.save({'state_dict': torch.nn.Linear(3, 4).state_dict()}, 'other.pth')
    line = fails(testing.main, SCENES, 'other.pth', *options)
    assert 'checkpoint other.pth does not fit this model: 0 of' in line
    line = fails(training.main, SCENES, *options, 'load_from=other.pth')
    assert 'checkpoint other.pth does not fit this model: 0 of' in line
    line = fails(training.main, SCENES, '--pretrained', 'other.pth', *options)
    assert 'other.pth: it holds no ResNet, but 2 tensors of ' in line


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.backbone.depth=49', ['unknown depth 49', '18, 26, 34, 42, 50, 75']),
        ('model.backbone.type=ResNetMod', ['ResNetMod is not in the mmseg::model registry']),
        ('model.backbone.c=1000', ['stage 0', 'width 64', 'c=1000']),
        ('train_dataloader.dataset.type=Cityscape', ['Cityscape is not in the']),
        ('default_scope=mmnone', ['mmnone', 'mmpretrain, mmseg, mmdet']),
    ],
)
def test_wrong_settings(fails, options, option, words):
    line = fails(training.main, SCENES, *options, option)
    assert all(word in line for word in words), line


def test_head_that_does_not_fit(fails, options):
    line = fails(training.main, SCENES, *options, 'model.decode_head.in_channels=2048')
    assert 'decode_head.convs.0.conv expects 2048 input channels but gets 512' in line
    assert 'in_channels' in line


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU here')
def test_cuda_on_a_machine_without_gpu(fails, options):
    assert 'torch finds no GPU' in fails(training.main, SCENES, '--device', 'cuda', *options)
    assert 'torch finds no GPU' in fails(training.main, SCENES, '--amp', *options)
    assert 'torch finds no GPU' in fails(testing.main, SCENES, 'x.pth', '--amp', *options)
    line = fails(training.main, SCENES, '--launcher', 'pytorch', *options)
    assert 'env_cfg.dist_cfg.backend=gloo' in line


def test_a_mixed_precision_optimiser_does_not_matter_in_testing(fails, options):
    amp = 'optim_wrapper.type=AmpOptimWrapper'
    assert 'x.pth does not exist' in fails(testing.main, SCENES, 'x.pth', *options, amp)


def test_work_dir_that_cannot_be_written(fails, data, tmp_path):
    (tmp_path / 'file').touch()
    line = fails(training.main, SCENES, '--data-root', data / 'scenes', '--work-dir', 'file/below')
    assert 'work dir file/below cannot be written' in line
    assert '--work-dir' in line


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(
    'kind', ['leftImg8bit/train/*/*_leftImg8bit.png', 'gtFine/train/*/*_labelTrainIds.png']
)
def test_truncated_image(fails, data, tmp_path, workers, kind):
    shutil.copytree(data / 'scenes', tmp_path / 'scenes')
    for path in tmp_path.glob(f'scenes/{kind}'):
        path.write_bytes(path.read_bytes()[:-90])
    line = fails(
        training.main, SCENES, '--data-root', tmp_path / 'scenes', '--work-dir', 'out',
        '--cfg-options', *shrink('mmseg'), f'train_dataloader.num_workers={workers}',
    )  # fmt: skip
    assert f'{Path(kind).name[1:]} cannot be read' in line
    assert 'replace it or remove it' in line


def test_resume_from_another_network(fails, options, tmp_path):
    (tmp_path / 'out').mkdir()
    content = {'state_dict': torch.nn.Linear(3, 4).state_dict(), 'message_hub': {}}
    torch.save(content, tmp_path / 'out' / 'iter_1.pth')
    (tmp_path / 'out' / 'last_checkpoint').write_text(str(tmp_path / 'out' / 'iter_1.pth'))
    line = fails(training.main, SCENES, '--resume', *options)
    assert 'iter_1.pth does not fit this model: 0 of' in line
    assert 'it holds 2 tensors of weight, bias; use the config' in line


def test_out_item_needs_out(fails, options):
    Path('a.pth').touch()
    line = fails(testing.main, SCENES, 'a.pth', '--out-item', 'metrics', *options)
    assert '--out FILE' in line


def test_debug_shows_the_traceback(tmp_path, run_tool):
    result = run_tool(
        sys.executable, ROOT / 'tools/train.py', 'nowhere.py', '--debug', cwd=tmp_path
    )
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1] == 'error: config nowhere.py does not exist', tail(result)


@pytest.mark.parametrize(
    ('module', 'words'),
    [
        ("raise ImportError('_ext.so: undefined symbol: _ZN3c10')", ['rebuild', 'undefined']),
        ("raise AssertionError('MMCV==1.0 is incompatible')", ['matching mmcv']),
        ("raise ModuleNotFoundError('gone', name='mmseg')", ['mmseg is not installed']),
    ],
)
def test_broken_toolbox(tmp_path, run_python, module, words):
    """The config needs mmseg, whose import fails; the error names the cause."""
    (tmp_path / 'mmseg').mkdir()
    (tmp_path / 'mmseg' / '__init__.py').write_text(module)
    result = run_python('-c', TRAIN, cwd=tmp_path, forget=['mmseg'])
    assert result.returncode == 1, tail(result)
    last = result.stderr.splitlines()[-1]
    assert last.startswith('error: ')
    assert all(word in last for word in words), last


@pytest.mark.parametrize('package', ['mmcv', 'mmengine'])
def test_missing_foundation(tmp_path, run_python, package):
    (tmp_path / package).mkdir()
    message = f'No module named {package!r}'
    (tmp_path / package / '__init__.py').write_text(f'raise ModuleNotFoundError("{message}")')
    packages = ['mmcv', 'mmengine', 'mmpretrain', 'mmseg', 'mmdet']
    result = run_python('-c', TRAIN, cwd=tmp_path, forget=packages)
    assert result.returncode == 1, tail(result)
    assert 'Traceback' not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith('error: ')
    assert message in last
    assert 'mmcv' in last.split(message)[1]  # the remedy
