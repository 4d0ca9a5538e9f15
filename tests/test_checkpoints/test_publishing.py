"""A published checkpoint has the weights, a record of their origin, and a hash in its name."""

import hashlib
import json
import sys

import numpy as np
import pytest
import torch

from mmcnnmod.checkpoints import publishing, read_checkpoint
from mmcnnmod.checkpoints.publishing import published, read_metrics, write_with_hash
from mmcnnmod.errors import UserError

from ..utils.mmengine_run import assert_same, runner

VERSIONS = dict(mmcnnmod='1.0', torch='2.0')
CONTENT = dict(
    meta=dict(cfg='a = 1\n', epoch=3, dataset_meta=dict(palette=np.eye(2, 3), classes=('a', 'b'))),
    state_dict={'module.weight': torch.arange(6.0).reshape(2, 3).t()},
    message_hub={},
    optimizer={},
    param_schedulers=[],
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The checkpoints of a training that averages the weights."""
    folder = tmp_path_factory.mktemp('training')
    runner(folder).train()
    return {path.stem: read_checkpoint(path) for path in folder.glob('*.pth')}


def test_weights_and_record_are_kept():
    content = published(CONTENT, VERSIONS, {'mIoU': 0.5})
    assert set(content) == {'state_dict', 'meta'}
    assert_same(dict(content['state_dict']), {'weight': CONTENT['state_dict']['module.weight']})
    assert content['meta'].pop('published')[:2] == '20'
    assert content['meta'] == dict(
        cfg='a = 1\n',
        epoch=3,
        dataset_meta=dict(palette=[[1, 0, 0], [0, 1, 0]], classes=['a', 'b']),
        versions=VERSIONS,
        metrics={'mIoU': 0.5},
        average_of_weights=False,
    )


def test_only_best_checkpoints_contain_scores_of_their_weights(trained):
    """They are saved after validation, the others before."""
    assert published(trained['best_mIoU_epoch_1'], VERSIONS)['meta']['metrics'] == {'mIoU': 0.5}
    assert 'val/mIoU' in trained['epoch_2']['message_hub']['log_scalars']  # the score of epoch 1
    assert published(trained['epoch_2'], VERSIONS)['meta']['metrics'] == {}


def test_average_or_weights_are_published(trained, tmp_path):
    """A training without EMAHook has the same weights."""
    content = trained['epoch_2']
    average = published(content, VERSIONS)
    weights = published(content, VERSIONS, average=False)
    assert average['meta']['average_of_weights']
    assert not weights['meta']['average_of_weights']

    without_hook = runner(tmp_path)
    without_hook._hooks = [h for h in without_hook._hooks if type(h).__name__ != 'EMAHook']
    without_hook.train()
    expected = {k: v for k, v in without_hook.model.state_dict().items() if 'running' not in k}
    for name, tensor in expected.items():
        assert torch.equal(weights['state_dict'][name], tensor), name
    assert not torch.equal(average['state_dict']['layer.0.weight'], expected['layer.0.weight'])
    with pytest.raises(UserError, match='no average'):
        published(CONTENT, VERSIONS, average=False)


@pytest.mark.parametrize('suffix', publishing.SUFFIXES)
def test_file_has_its_hash_in_the_name(tmp_path, suffix):
    if suffix == '.safetensors':
        pytest.importorskip('safetensors')
    content = published(CONTENT, VERSIONS, {'mIoU': 0.5})
    path = write_with_hash(content, tmp_path / f'new/folder/fcn.r50{suffix}')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path == tmp_path / f'new/folder/fcn.r50-{digest[:8]}{suffix}'
    assert torch.hub.HASH_REGEX.search(path.name)[1] == digest[:8]
    assert list(path.parent.iterdir()) == [path]
    assert_same(dict(read_checkpoint(path)['state_dict']), content['state_dict'])
    assert read_checkpoint(path)['meta'] == content['meta']


def test_torch_reads_it_with_weights_only(tmp_path):
    path = write_with_hash(published(CONTENT, VERSIONS), tmp_path / 'a.pth')
    assert torch.load(path, weights_only=True)['meta']['epoch'] == 3


def test_view_is_saved_without_the_rest_of_its_storage(tmp_path):
    content = dict(state_dict={'weight': torch.zeros(1 << 20)[:2]})
    path = write_with_hash(published(content, VERSIONS), tmp_path / 'a.pth')
    assert path.stat().st_size < 1 << 14


def test_files_are_neither_overwritten_nor_left_incomplete(tmp_path, monkeypatch):
    content = published(CONTENT, VERSIONS)
    path = write_with_hash(content, tmp_path / 'a.pth')
    before = path.stat().st_mtime_ns
    with pytest.raises(UserError, match=f'{path} already exists'):
        write_with_hash(content, tmp_path / 'a.pth')
    assert path.stat().st_mtime_ns == before

    def interrupted(content, file, suffix):
        file.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing, 'serialize', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_with_hash(content, tmp_path / 'b.pth')
    assert list(tmp_path.iterdir()) == [path]


def test_errors_in_writing(tmp_path, monkeypatch):
    content = published(CONTENT, VERSIONS)
    with pytest.raises(UserError, match=r'a.zip: published checkpoints end in .pth or .safeten'):
        write_with_hash(content, tmp_path / 'a.zip')
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'file/a-\w{8}.pth cannot be written'):
        write_with_hash(content, tmp_path / 'file' / 'a.pth')
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(UserError, match='pip install safetensors'):
        write_with_hash(content, tmp_path / 'a.safetensors')
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_metrics_are_read_from_json(tmp_path):
    path = tmp_path / 'scores.json'
    path.write_text(json.dumps({'mIoU': 50, 'data_time': 0.1, 'time': 0.2}))
    assert read_metrics(path) == {'mIoU': 50.0}
    for text in ('[1]', '{"a": "b"}', '{"a": null}', '{'):
        path.write_text(text)
        with pytest.raises(UserError, match=r'metrics .*scores.json cannot be read'):
            read_metrics(path)
    with pytest.raises(UserError, match=r'metrics .*none.json cannot be read'):
        read_metrics(tmp_path / 'none.json')


@pytest.mark.parametrize('kind', ['in itself', 'twice in another'])
def test_endless_meta_raises_an_error(kind):
    """A copy of lists that contain themselves or share lists would fill the memory."""
    value = []
    if kind == 'in itself':
        value.append(value)
    else:
        for _ in range(60):
            value = [value, value]
    content = dict(CONTENT, meta=dict(dataset_meta=value))
    with pytest.raises(UserError, match=r'meta .* more than 1,000,000 values, or nests them'):
        published(content, VERSIONS)
