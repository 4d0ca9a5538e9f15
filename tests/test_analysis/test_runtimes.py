"""The runtimes compute the network, or fail with one line."""

import sys

import pytest
import torch
from torch import nn

from mmcnnmod.analysis.measurements import Setting
from mmcnnmod.analysis.runtimes import EXPORTED, RUNTIMES, check_runtime
from mmcnnmod.errors import UserError
from mmcnnmod.ops import DeployedMoDBlock


class Model(nn.Module):
    """An MoD backbone and a dense layer, with the interface of the toolboxes' models."""

    def __init__(self):
        super().__init__()
        toolbox = pytest.importorskip('mmcnnmod.toolboxes.mmpretrain')
        self.backbone = toolbox.ResNetMoD(18, base_channels=16, stem_channels=16, c=4)
        self.conv, self.bn = nn.Conv2d(128, 16, 1, bias=False), nn.BatchNorm2d(16)

    def forward(self, images, data_samples=None, mode='tensor'):
        return torch.relu(self.bn(self.conv(self.backbone(images)[-1])))


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = Model()
    for name, tensor in model.state_dict().items():
        if 'bn' in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def is_deployed(network):
    """Whether all MoD blocks are deployed and all norms folded."""
    kinds = {type(module) for module in network.modules()}
    assert (DeployedMoDBlock in kinds) == (nn.BatchNorm2d not in kinds)
    return DeployedMoDBlock in kinds


@pytest.mark.parametrize(
    'runtime', ['eager', 'deploy', 'onnxruntime', 'openvino', 'openvino-default']
)
@torch.no_grad()
def test_runtime_computes_the_networks_output(network, runtime):
    if runtime in EXPORTED:
        pytest.importorskip(EXPORTED[runtime], reason='in requirements/runtimes.txt')
    images = torch.rand(2, 3, 65, 64).to(memory_format=torch.channels_last)
    expected = network(images)
    output = RUNTIMES[runtime](network, images)()
    output = output if isinstance(output, torch.Tensor) else torch.from_numpy(output[0].copy())
    # In bf16 two channels with nearly equal logits may be swapped.
    close = dict(rtol=0, atol=0.2) if 'default' in runtime else dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output, expected, **close)
    assert is_deployed(network) == (runtime != 'eager')


@pytest.mark.parametrize('runtime', ['compile', 'deploy-compile'])
@torch.no_grad()
def test_network_is_compiled_as_one_graph(network, compiled_graphs, runtime):
    images = torch.rand(2, 3, 65, 64)
    expected = network(images)
    call = RUNTIMES[runtime](network, images)
    for _ in range(2):
        torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-5)
    assert len(compiled_graphs) == 1
    assert is_deployed(network) == (runtime == 'deploy-compile')


@torch.no_grad()
def test_network_with_a_graph_break_fails(compiled_graphs):
    class GraphBreak(nn.Module):
        def forward(self, images):
            torch._dynamo.graph_break()
            return images

    call = RUNTIMES['compile'](GraphBreak(), torch.rand(2, 3, 6, 5))
    with pytest.raises(Exception, match='graph_break'):
        call()


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (('cpu', 'cuda-graph', 1, 'float32'), 'cuda-graph needs a GPU'),
        (('cuda', 'openvino', 1, 'float32'), 'runs on the CPU'),
        (
            ('cpu', 'deploy', 1, 'float32', 'contiguous', 'training'),
            'cannot train; choose from eager, compile',
        ),
        (('cuda', 'openvino-default', 1, 'float32'), 'runs on the CPU'),
        (('cpu', 'onnxruntime', 1, 'bfloat16'), 'does not accept bfloat16'),
        (('cpu', 'onnxruntime', 1, 'float32'), 'pip install onnxruntime'),
    ],
)
def test_impossible_setting_fails_with_one_line(setting, message, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match=message) as error:
        check_runtime(Setting(*setting))
    assert '\n' not in str(error.value)


def test_possible_settings_pass():
    check_runtime(Setting('cpu', 'eager', 1, 'bfloat16', what='training'))
    check_runtime(Setting('cpu', 'compile', 1, 'float16'))
