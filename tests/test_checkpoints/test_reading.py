"""Checkpoints are read completely by every reader, and none of them runs code."""

import http.server
import io
import json
import pickle
import subprocess
import sys
import threading
from functools import partial

import mmengine.runner.checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from torch import nn

from mmcnnmod.checkpoints import read_checkpoint, read_state_dict, safe_loading
from mmcnnmod.errors import UserError

from ..utils.mmengine_run import assert_same, runner
from ..utils.payloads import KINDS, write_payload

WEIGHTS = {'conv.weight': torch.rand(2, 3), 'norm.count': torch.tensor(7)}


@pytest.fixture
def mark(tmp_path):
    """The file that payloads create."""
    return tmp_path / 'mark'


@pytest.mark.smoke
@pytest.mark.parametrize('kind', KINDS)
def test_payloads_are_refused(tmp_path, mark, kind):
    path = write_payload(tmp_path / 'evil.pth', mark, kind)
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert not mark.exists()
    for words in (
        f'checkpoint {path} is refused',
        f'asks for {open.__module__}.open',
        '--trust-checkpoint',
    ):
        assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_the_payload_is_a_real_one(tmp_path, mark):
    """It runs if the file is trusted, so the other tests can fail."""
    path = write_payload(tmp_path / 'evil.pth', mark)
    assert torch.equal(read_state_dict(path, trusted=True)['weight'], torch.zeros(2))
    assert mark.exists()


def test_programs_in_other_formats(tmp_path):
    """Those that torch.load passes to other loaders."""
    path = tmp_path / 'script.pth'
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(UserError, match='refused: it is in the TorchScript format'):
        read_checkpoint(path)
    tar = tmp_path / 'tar.pth'
    subprocess.run(['tar', '-cf', tar, '-C', tmp_path, 'script.pth'], check=True)
    with pytest.raises(UserError, match='refused: it is in the tar format'):
        read_checkpoint(tar)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('protocol', [2, 4])
def test_both_formats_of_torch(tmp_path, zipped, protocol):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).half()
    content = dict(state_dict=network.state_dict(), parameter=network[0].weight, meta=dict(epoch=3))
    torch.save(
        content,
        tmp_path / 'a.pth',
        _use_new_zipfile_serialization=zipped,
        pickle_protocol=protocol,
    )
    assert_same(read_checkpoint(tmp_path / 'a.pth'), content)


@pytest.mark.parametrize(
    'wrap', [dict, lambda w: dict(state_dict=w), lambda w: dict(model=w, epoch=1)]
)
def test_the_weights_inside(tmp_path, wrap):
    torch.save(wrap({f'module.{name}': tensor for name, tensor in WEIGHTS.items()}), tmp_path / 'a')
    assert_same(read_state_dict(tmp_path / 'a'), WEIGHTS)


def test_what_is_no_checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    with pytest.raises(UserError, match=r'checkpoint .*a.pth does not exist'):
        read_checkpoint(path)
    for content in (b'', b'PK\x03\x04 but no more', b'text', pickle.dumps(dict(blobs=1))):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r'checkpoint .*a.pth cannot be read \(\w+'):
            read_checkpoint(path)
    for thing in ([1], dict(state_dict=dict(a='text')), torch.zeros(2)):
        torch.save(thing, path)
        with pytest.raises(UserError, match=r'a.pth cannot be read \(.*it holds'):
            read_state_dict(path)


def test_an_address_out_of_reach():
    with pytest.raises(UserError, match=r'download it elsewhere and use the file'):
        read_checkpoint('http://127.0.0.1:9/net.pth')  # nobody listens on port 9


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    safetensors.save_file(WEIGHTS, tmp_path / 'a.safetensors', metadata=dict(epoch='3', cfg='a=1'))
    content = read_checkpoint(tmp_path / 'a.safetensors')
    assert_same(content, dict(state_dict=WEIGHTS, meta=dict(epoch=3, cfg='a=1')))


def test_safetensors_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    (tmp_path / 'a.safetensors').touch()
    with pytest.raises(UserError, match=r'a.safetensors .*pip install safetensors'):
        read_checkpoint(tmp_path / 'a.safetensors')


def test_torchs_own_switch_does_no_harm(tmp_path, monkeypatch):
    """With it, torch accepts no unpickler but its own, which refuses mmengine's checkpoints."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    torch.save(dict(a=torch.zeros(1), history=HistoryBuffer([1.0], [1])), tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth')['history'].mean() == 1


# --- every reader ---


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """Serve a folder under all schemes of mmengine; returns a file in it and its address."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        monkeypatch.setenv('NO_PROXY', '*')
        monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
        monkeypatch.setenv('MMENGINE_HOME', str(folder))
        urls = {'net': f'{address}/net.pth'}
        monkeypatch.setattr(mmengine.runner.checkpoint, 'get_torchvision_models', lambda: urls)
        monkeypatch.setattr(mmengine.runner.checkpoint, 'get_mmcls_models', lambda: urls)
        local = {'local': 'net.pth', **urls}
        (folder / 'open_mmlab.json').write_text(json.dumps(local))
        yield folder / 'net.pth', address
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


SCHEMES = ['{}/net.pth', 'torchvision://net', 'mmcls://net', 'openmmlab://net', 'openmmlab://local']


@pytest.mark.parametrize('scheme', SCHEMES)
def test_every_scheme(remote, mark, scheme):
    path, address = remote
    torch.save({'state_dict': {f'backbone.{name}': t for name, t in WEIGHTS.items()}}, path)
    weights = read_state_dict(scheme.format(address))
    assert_same({name.removeprefix('backbone.'): t for name, t in weights.items()}, WEIGHTS)


@pytest.mark.parametrize('scheme', SCHEMES)
def test_every_scheme_refuses(remote, mark, scheme):
    path, address = remote
    write_payload(path, mark)
    with pytest.raises(UserError, match=rf'net.pth is refused: it asks for {open.__module__}.open'):
        read_checkpoint(scheme.format(address))
    assert not mark.exists()


def test_readers_that_know_nothing_of_this(tmp_path, mark):
    """mmengine's functions, and torch.load from a file, an open file and memory."""
    path = write_payload(tmp_path / 'evil.pth', mark)
    readers = [
        lambda: load_checkpoint(nn.Linear(1, 1), str(path)),
        lambda: torch.load(path, map_location='cpu'),
        lambda: torch.load(path, weights_only=False),
        lambda: torch.load(str(path), pickle_module=pickle),
        lambda: torch.load(path.open('rb')),
        lambda: torch.load(io.BytesIO(path.read_bytes())),
    ]
    for read in readers:
        with safe_loading(), pytest.raises(UserError, match=r'is refused: it asks for io\.open'):
            read()
    assert not mark.exists()


def test_several_things_in_one_file(tmp_path):
    """torch.load reads from where the file stands."""
    with open(tmp_path / 'two.pth', 'w+b') as file:
        for i in range(2):
            torch.save(dict(i=i), file, _use_new_zipfile_serialization=False)
        file.seek(0)
        with safe_loading():
            assert [torch.load(file)['i'], torch.load(file)['i']] == [0, 1]


def test_it_ends_with_the_block(tmp_path, mark):
    before = torch.load
    assert before.__module__ == 'torch.serialization'  # importing the package changes nothing
    with safe_loading():
        assert torch.load is not before
    assert torch.load is before
    with pytest.raises(FileNotFoundError), safe_loading():
        torch.load(tmp_path / 'nothing')
    assert torch.load is before


def test_trust_is_for_all_that_is_inside(tmp_path, mark):
    path = write_payload(tmp_path / 'evil.pth', mark)
    with safe_loading(trusted=True):
        read_checkpoint(path)
    assert mark.exists()
    mark.unlink()
    with safe_loading(), pytest.raises(UserError):
        read_checkpoint(path)
    assert not mark.exists()


# --- what mmengine writes ---


@pytest.mark.smoke
def test_what_mmengine_writes(tmp_path):
    """Every kind of scheduler, the average, a palette, scores: read whole, and resumed."""
    runner(tmp_path).train()
    for name in ('epoch_2', 'best_mIoU_epoch_1'):
        path = tmp_path / f'{name}.pth'
        content = read_checkpoint(path)
        assert 'HistoryBuffer' in str(content['message_hub'])
        assert content['meta']['dataset_meta']['palette'].dtype == np.uint8
        assert_same(content, torch.load(path, weights_only=False))

    resumed = []
    for trusted in (False, True):
        work_dir = tmp_path / f'trusted-{trusted}'
        with safe_loading(trusted):
            go_on = runner(work_dir, 3, load_from=str(tmp_path / 'epoch_2.pth'), resume=True)
            go_on.train()
        resumed.append(go_on)
    assert_same(*(go_on.model.state_dict() for go_on in resumed))
    assert_same(*(go_on.optim_wrapper.state_dict() for go_on in resumed))
    losses = [go_on.message_hub.get_scalar('train/loss').data[0] for go_on in resumed]
    assert len(losses[0]) == 6  # of three epochs
    assert_same(*losses)


def test_names_that_are_no_texts(tmp_path):
    torch.save({'a': torch.ones(1), 3: torch.ones(1)}, tmp_path / 'a.pth')
    assert set(read_state_dict(tmp_path / 'a.pth')) == {'a'}


def test_torchs_names_of_arguments(tmp_path):
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.pth')
    with safe_loading():
        assert torch.load(f=tmp_path / 'a.pth', map_location='cpu', weights_only=True)['a'] == 1
