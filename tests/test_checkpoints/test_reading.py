"""Checkpoints are read completely and without running code, whichever function reads them."""

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

from ..utils.dense_networks import add_prefix
from ..utils.mmengine_run import assert_same, runner
from ..utils.payloads import KINDS, write_payload

WEIGHTS = {'conv.weight': torch.rand(2, 3), 'norm.count': torch.tensor(7)}


@pytest.fixture
def mark(tmp_path):
    """The file that the code in payloads creates."""
    return tmp_path / 'mark'


@pytest.mark.smoke
@pytest.mark.parametrize('kind', KINDS)
def test_payload_is_refused(tmp_path, mark, kind):
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


def test_payload_runs_only_if_it_is_trusted(tmp_path, mark):
    path = write_payload(tmp_path / 'evil.pth', mark)
    assert torch.equal(read_state_dict(path, trusted=True)['weight'], torch.zeros(2))
    assert mark.exists()
    mark.unlink()
    with safe_loading(trusted=True):
        read_checkpoint(path)
    assert mark.exists()
    mark.unlink()
    with safe_loading(), pytest.raises(UserError):
        read_checkpoint(path)
    assert not mark.exists()


def test_torchscript_and_tar_files_are_refused(tmp_path):
    """torch.load passes them to other loaders."""
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
    'wrap',
    [
        dict,
        lambda weights: dict(state_dict=weights),
        lambda weights: dict(model=weights, epoch=1),
        lambda weights: {**weights, 3: torch.ones(1)},
    ],
)
def test_weights_are_found_in_the_content(tmp_path, wrap):
    torch.save(wrap({f'module.{name}': tensor for name, tensor in WEIGHTS.items()}), tmp_path / 'a')
    assert_same(read_state_dict(tmp_path / 'a'), WEIGHTS)


def test_other_files_raise_an_error(tmp_path):
    path = tmp_path / 'a.pth'
    with pytest.raises(UserError, match=r'checkpoint .*a.pth does not exist'):
        read_checkpoint(path)
    for content in (b'', b'PK\x03\x04 but no more', b'text', pickle.dumps(dict(blobs=1))):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r'checkpoint .*a.pth cannot be read \(\w+'):
            read_checkpoint(path)
    for content in ([1], dict(state_dict=dict(a='text')), torch.zeros(2)):
        torch.save(content, path)
        with pytest.raises(UserError, match=r'a.pth cannot be read \(.*it holds'):
            read_state_dict(path)


def test_unreachable_address_raises_an_error():
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


def test_torch_force_weights_only_load_has_no_effect(tmp_path, monkeypatch):
    """With this variable, torch accepts only its own unpickler, which refuses histories."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    torch.save(dict(a=torch.zeros(1), history=HistoryBuffer([1.0], [1])), tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth')['history'].mean() == 1


# --- other functions that read checkpoints ---


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """Serve a folder under all schemes of mmengine; gives its path and the server's address."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        monkeypatch.setenv('NO_PROXY', '*')
        monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
        monkeypatch.setenv('MMENGINE_HOME', str(folder))
        urls = {name: f'{address}/{name}.pth' for name in ('good', 'evil')}
        monkeypatch.setattr(mmengine.runner.checkpoint, 'get_torchvision_models', lambda: urls)
        monkeypatch.setattr(mmengine.runner.checkpoint, 'get_mmcls_models', lambda: urls)
        local = {f'local-{name}': f'{name}.pth' for name in urls}
        (folder / 'open_mmlab.json').write_text(json.dumps({**local, **urls}))
        yield folder, address
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    'scheme',
    ['{server}/{name}.pth', 'torchvision://{name}', 'mmcls://{name}', 'openmmlab://{name}',
     'openmmlab://local-{name}'],
)  # fmt: skip
def test_every_scheme_reads_weights_and_refuses_payloads(remote, mark, scheme):
    folder, server = remote
    # mmengine keeps only names with this prefix for mmcls://, and removes it.
    torch.save({'state_dict': add_prefix('backbone.', WEIGHTS)}, folder / 'good.pth')
    weights = read_state_dict(scheme.format(server=server, name='good'))
    assert_same({name.removeprefix('backbone.'): t for name, t in weights.items()}, WEIGHTS)
    write_payload(folder / 'evil.pth', mark)
    with pytest.raises(UserError, match=f'evil.pth is refused: it asks for {open.__module__}.open'):
        read_checkpoint(scheme.format(server=server, name='evil'))
    assert not mark.exists()


def test_functions_of_torch_and_mmengine_refuse_payloads(tmp_path, mark):
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


def test_torch_load_reads_from_the_current_position(tmp_path):
    with open(tmp_path / 'two.pth', 'w+b') as file:
        for i in range(2):
            torch.save(dict(i=i), file, _use_new_zipfile_serialization=False)
        file.seek(0)
        with safe_loading():
            assert torch.load(file)['i'] == 0
            # The names of torch's arguments are accepted.
            assert torch.load(f=file, map_location='cpu', weights_only=True)['i'] == 1


def test_safe_loading_ends_with_the_block(tmp_path):
    before = torch.load
    assert before.__module__ == 'torch.serialization'  # importing the package changes nothing
    with safe_loading():
        assert torch.load is not before
    assert torch.load is before
    with pytest.raises(FileNotFoundError), safe_loading():
        torch.load(tmp_path / 'nothing')
    assert torch.load is before


@pytest.mark.smoke
def test_checkpoints_of_mmengine_are_read_and_resumed(tmp_path):
    """With every kind of scheduler, the average of the weights, a palette and scores."""
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
            resuming = runner(work_dir, 3, load_from=str(tmp_path / 'epoch_2.pth'), resume=True)
            resuming.train()
        resumed.append(resuming)
    assert_same(*(resuming.model.state_dict() for resuming in resumed))
    assert_same(*(resuming.optim_wrapper.state_dict() for resuming in resumed))
    losses = [resuming.message_hub.get_scalar('train/loss').data[0] for resuming in resumed]
    assert len(losses[0]) == 6  # of three epochs
    assert_same(*losses)
