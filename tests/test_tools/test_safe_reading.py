"""No program runs the code in a checkpoint, in whichever way it reads the file."""

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
    """A correct checkpoint, so that any error is caused by what a test adds."""
    register_all_modules(init_default_scope=True)
    model = MODELS.build(Config.fromfile(SCENES).model)
    hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    return dict(state_dict=model.state_dict(), meta=dict(epoch=0, iter=1), message_hub=hub)


@pytest.fixture
def evil(content, tmp_path):
    """A checkpoint with a payload, which --resume without a file would find."""
    path = write_payload(tmp_path / 'evil.pth', tmp_path / 'mark', content=content)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'last_checkpoint').write_text(str(path))
    return path


# The ways in which programs read a checkpoint: the program, arguments, --cfg-options.
WAYS = {
    'test': (testing.main, ['EVIL'], []),
    'resume': (training.main, ['--resume', 'EVIL'], []),
    'resume the latest': (training.main, ['--resume'], []),
    'pretrained': (training.main, ['--pretrained', 'EVIL'], []),
    'load_from': (training.main, [], ['load_from=EVIL']),
    'init_cfg': (
        training.main,
        [],
        ['model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=EVIL'],
    ),
    'init_cfg of a head': (
        training.main,
        [],
        [
            'model.decode_head.init_cfg.type=Pretrained',
            'model.decode_head.init_cfg.checkpoint=EVIL',
        ],
    ),
}


@pytest.mark.parametrize(('main', 'arguments', 'cfg_options'), WAYS.values(), ids=WAYS)
def test_payload_is_not_run(fails, options, evil, tmp_path, main, arguments, cfg_options):
    words = [str(word).replace('EVIL', str(evil)) for word in (*arguments, *options, *cfg_options)]
    line = fails(main, SCENES, *words)
    assert f'checkpoint {evil} is refused: it asks for {open.__module__}.open' in line
    assert '--trust-checkpoint' in line
    assert not (tmp_path / 'mark').exists()


def test_payload_is_not_run_when_publishing(fails, evil, tmp_path):
    line = fails(publishing.main, evil, tmp_path / 'new' / 'a.pth')
    assert f'checkpoint {evil} is refused: it asks for {open.__module__}.open' in line
    assert not (tmp_path / 'mark').exists()
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('main', [testing.main, training.main])
def test_trust_checkpoint_runs_the_payload(fails, options, content, tmp_path, main):
    """The weights are of another network, so that the programs end."""
    other = {'state_dict': torch.nn.Linear(3, 4).state_dict(), 'message_hub': {}}
    evil = write_payload(tmp_path / 'evil.pth', tmp_path / 'mark', content=other)
    start = [evil] if main is testing.main else ['--resume', evil]
    line = fails(main, SCENES, *start, '--trust-checkpoint', *options)
    assert 'does not fit this model' in line
    assert (tmp_path / 'mark').exists()


def test_resuming_does_not_run_the_config_in_the_checkpoint(fails, options, content, tmp_path):
    """mmengine would read meta.config as a Python file."""
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
    """mmengine would load nothing and only warn."""
    torch.save({'model': content['state_dict']}, tmp_path / 'a.pth')
    line = fails(testing.main, SCENES, tmp_path / 'a.pth', *options)
    assert 'it holds no tensors' in line


def test_checkpoint_without_training_state_cannot_be_resumed(fails, options, content, tmp_path):
    torch.save({'state_dict': content['state_dict']}, tmp_path / 'a.pth')
    line = fails(training.main, SCENES, '--resume', tmp_path / 'a.pth', *options)
    assert 'no training state to resume' in line
    assert f'load_from={tmp_path / "a.pth"}' in line
