"""No tool runs code in a checkpoint, wherever it reads the file."""

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

from mmcnnmod.cli import publish as publishing
from mmcnnmod.cli import test as testing
from mmcnnmod.cli import train as training
from tests.utils.payloads import write_payload

from ..utils.tasks import ROOT, TASKS

SCENES = str(ROOT / TASKS['mmseg'][0])

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(scope='module')
def content():
    """A correct checkpoint, so that only what is added to it can be refused."""
    register_all_modules(init_default_scope=True)
    model = MODELS.build(Config.fromfile(SCENES).model)
    hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    return dict(state_dict=model.state_dict(), meta=dict(epoch=0, iter=1), message_hub=hub)


@pytest.fixture
def evil(content, tmp_path):
    return write_payload(tmp_path / 'evil.pth', tmp_path / 'mark', content=content)


def latest(path):
    """Make a checkpoint the one that --resume finds."""
    (path.parent / 'out').mkdir()
    (path.parent / 'out' / 'last_checkpoint').write_text(str(path))


WAYS = {
    'test': lambda path: (testing.main, [SCENES, path], []),
    'resume': lambda path: (training.main, [SCENES, '--resume', path], []),
    'resume the latest': lambda path: latest(path) or (training.main, [SCENES, '--resume'], []),
    'pretrained': lambda path: (training.main, [SCENES, '--pretrained', path], []),
    'load_from': lambda path: (training.main, [SCENES], [f'load_from={path}']),
    'init_cfg': lambda path: (
        training.main,
        [SCENES],
        ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={path}'],
    ),
    'init_cfg of a head': lambda path: (
        training.main,
        [SCENES],
        [
            'model.decode_head.init_cfg.type=Pretrained',
            f'model.decode_head.init_cfg.checkpoint={path}',
        ],
    ),
}


@pytest.mark.parametrize('way', WAYS.values(), ids=WAYS)
def test_a_payload(fails, options, evil, tmp_path, way):
    main, arguments, cfg_options = way(evil)
    line = fails(main, *arguments, *options, *cfg_options)
    assert f'checkpoint {evil} is refused: it asks for {open.__module__}.open' in line
    assert '--trust-checkpoint' in line
    assert not (tmp_path / 'mark').exists()


def test_a_payload_to_publish(fails, evil, tmp_path):
    line = fails(publishing.main, evil, tmp_path / 'new' / 'a.pth')
    assert f'checkpoint {evil} is refused: it asks for {open.__module__}.open' in line
    assert not (tmp_path / 'mark').exists()
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('main', [testing.main, training.main])
def test_trust(fails, options, content, tmp_path, main):
    """The file is read with its payload; the error about another network shows it."""
    other = {'state_dict': torch.nn.Linear(3, 4).state_dict(), 'message_hub': {}}
    evil = write_payload(tmp_path / 'evil.pth', tmp_path / 'mark', content=other)
    start = [evil] if main is testing.main else ['--resume', evil]
    line = fails(main, SCENES, *start, '--trust-checkpoint', *options)
    assert 'does not fit this model' in line
    assert (tmp_path / 'mark').exists()


def test_code_that_resuming_would_run(fails, options, content, tmp_path):
    """mmengine reads meta.config as a Python file."""
    mark = tmp_path / 'mark'
    text = f'open({str(mark)!r}, "w").close()\n'
    Config.fromstring(text, '.py')
    assert mark.exists()
    mark.unlink()
    path = tmp_path / 'evil.pth'
    torch.save({**content, 'meta': {**content['meta'], 'config': text}}, path)
    line = fails(training.main, SCENES, '--resume', path, *options)
    assert 'resuming would run the code in its meta.config' in line
    assert not mark.exists()


def test_weights_under_a_key_that_mmengine_ignores(fails, options, content, tmp_path):
    """It would load nothing and only warn."""
    torch.save({'model': content['state_dict']}, tmp_path / 'a.pth')
    line = fails(testing.main, SCENES, tmp_path / 'a.pth', *options)
    assert 'it holds no tensors' in line


def test_weights_cannot_be_resumed(fails, options, content, tmp_path):
    torch.save({'state_dict': content['state_dict']}, tmp_path / 'a.pth')
    line = fails(training.main, SCENES, '--resume', tmp_path / 'a.pth', *options)
    assert 'no training state to resume' in line
    assert f'load_from={tmp_path / "a.pth"}' in line
