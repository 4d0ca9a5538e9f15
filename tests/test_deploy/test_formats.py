"""Exported files of all formats compute PyTorch's outputs at every batch and image size."""

import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement

from mmcnnmod.deploy.exported_file import BATCH
from mmcnnmod.deploy.formats import open_file
from mmcnnmod.deploy.parity import compare
from mmcnnmod.deploy.parts import part_of, selectors
from mmcnnmod.errors import UserError

from ..utils.blocks import saturate, turn_off
from .conftest import ROOT

QUICK = ('onnx', 'openvino', 'torchscript', 'torch-export')


@pytest.fixture(params=QUICK)
def name(request):
    if request.param == 'torch-export' and not hasattr(torch.export, 'Dim'):
        pytest.skip(f'torch {torch.__version__} does not export other batches')
    return request.param


def predicted(model, images):
    """The toolbox's predictions, in the form of a file's outputs."""
    with torch.no_grad():
        if hasattr(model, 'encode_decode'):
            samples = model.predict(images)
            logits = torch.stack([sample.seg_logits.data for sample in samples])
            labels = torch.cat([sample.pred_sem_seg.data for sample in samples])
            return dict(logits=logits, labels=labels)
        if hasattr(model, 'rpn_head'):
            return {f'map{i}': each for i, each in enumerate(model.extract_feat(images))}
        return dict(scores=torch.stack([sample.pred_score for sample in model.predict(images)]))


def test_outputs_are_the_toolboxs_predictions_at_every_batch_and_size(toolbox, part, write, name):
    network = part(toolbox)
    file = write(network, name)
    for shape in ((1, 3, 64, 128), (3, 3, 64, 128), (2, 3, 192, 128)):
        if toolbox == 'mmdet' and name == 'torch-export':
            shape = (*shape[:2], max(shape[2], 128), shape[3])  # its smallest size is two strides
        images = torch.randn(shape)
        outputs, selected = file(images)
        expected = predicted(network.model, images)
        assert list(outputs) == list(expected)
        for key, tensor in expected.items():
            if tensor.is_floating_point():
                largest = tensor.abs().max().item()
                torch.testing.assert_close(outputs[key], tensor, rtol=0, atol=1e-4 * largest)
            else:
                assert (outputs[key] == tensor).float().mean() > 0.999
        assert [tuple(each.shape[:1]) for each in selected.values()] == [shape[:1]] * 4
        assert compare(network, images, file, images).agrees


def test_file_with_preprocessing_accepts_raw_images(toolbox, part, write, name):
    network = part(toolbox, raw=True)
    assert 'mean' in dict(network.model.data_preprocessor.named_buffers())
    file = write(network, name, dynamic=(BATCH,), size=(64, 64))
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    data = dict(inputs=list(images), data_samples=[BaseDataElement() for _ in images])
    normalized = network.model.data_preprocessor(data)['inputs']
    key, expected = next(iter(predicted(network.model, normalized).items()))
    found = file(images)[0][key]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(
    'options',
    [
        dict(position='last'),
        dict(position='original'),
        dict(fusion='replace'),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
        dict(placement='every', c=16),
    ],
    ids=lambda options: next(iter(options)) + str(next(iter(options.values())))[:8],
)
def test_options_of_the_mod_block(part, write, name, options):
    network = part('mmpretrain', change=lambda cfg: cfg.model.backbone.update(options))
    file = write(network, name, size=(32, 32))
    images = torch.randn(3, 3, 40, 48)
    assert compare(network, images, file, images).agrees


@pytest.mark.parametrize('precision', ['f32', 'default'])
def test_the_highest_logits_are_selected_if_all_scores_are_1(part, write, name, precision):
    if precision == 'default' and name != 'openvino':  # bf16 if the CPU supports it
        pytest.skip('only OpenVINO has several precisions')
    network = part('mmpretrain', change=lambda cfg: cfg.model.backbone.update(c=4))
    highest = {key: saturate(selector) for key, selector in selectors(network).items()}
    images = torch.randn(3, 3, 40, 48)
    saturated = []
    for selector in selectors(network).values():
        selector.register_forward_hook(
            lambda module, inputs, output: saturated.append(bool((output[1] == 1).all()))
        )
    with torch.no_grad():
        network(images)
    assert saturated == [True] * 4
    for selector in selectors(network).values():
        selector._forward_hooks.clear()
    file = write(network, name, size=(32, 32))
    file = open_file(file.path, list(highest), precision)
    selected = file(images)[1]
    assert {key: index.tolist() for key, index in selected.items()} == {
        key: [best] * 3 for key, best in highest.items()
    }
    if precision == 'f32':
        assert compare(network, images, file, images).agrees


def test_selection_among_equal_logits(part, write, name):
    """docs/deployment.md describes it; it is the same in every run."""
    network = part('mmpretrain', change=lambda cfg: cfg.model.backbone.update(c=4))
    for selector in selectors(network).values():
        turn_off(selector)
    file = write(network, name, size=(32, 32))
    images = torch.randn(3, 3, 40, 48)
    selected, again = file(images)[1], file(images)[1]
    for key, selector in selectors(network).items():
        index, k = selected[key], selector.k
        assert torch.equal(index, again[key])
        if name == 'onnx':
            assert index.tolist() == [list(range(k))] * 3
        elif name == 'openvino':
            assert index.sort(1).values.tolist() == [list(range(k))] * 3
        else:
            assert torch.equal(index, selector(torch.rand(3, selector.in_channels, 2, 2))[0])
    result = compare(network, images, file, images)
    assert result.agrees
    assert (result.tied > 0) == (name in ('onnx', 'openvino'))


@pytest.mark.parametrize(
    'config', ['mobilenet-v2-mod_in1k', 'vgg16-bn-mod_cifar10', 'convnext-tiny-mod_in1k']
)
def test_every_family(config, write, name):
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    cfg.model.data_preprocessor = cfg.data_preprocessor
    pytest.importorskip('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = part_of(MODELS.build(cfg.model).eval(), 'model')
    file = write(network, name, size=(64, 64))
    images = torch.randn(2, 3, 64, 128)
    result = compare(network, images, file, images)
    assert result.agrees
    assert result.same + result.tied == 2 * len(selectors(network)) > 0
    if name == 'onnx':
        operators = {node.op_type for node in graph_of(file.path).node}
        page = (ROOT / 'docs/deployment.md').read_text()
        assert not [each for each in operators if f'`{each}`' not in page]


def test_selector_without_effect_on_the_outputs_is_not_in_the_file(part, write, name):
    def shallow(cfg):
        cfg.model.decode_head.update(in_index=2, in_channels=256)

    network = part('mmseg', change=shallow)
    file = write(network, name, size=(32, 32))
    images = torch.randn(2, 3, 32, 32)
    result = compare(network, images, file, images)
    assert result.agrees
    # Two images in three blocks; torch.export keeps the fourth block.
    assert result.same == (8 if name == 'torch-export' else 6)


def test_onnx_graph(part, write):
    network = part('mmseg')
    graph = graph_of(write(network, 'onnx').path)
    constants = {each.name for each in graph.initializer}
    kinds = [node.op_type for node in graph.node]
    assert not {node.domain for node in graph.node} - {'', 'ai.onnx'}
    assert not {'ScatterND', 'ScatterElements', 'GatherND', 'BatchNormalization', 'If', 'Loop'} & {
        node.op_type for node in graph.node if node.name.startswith('/backbone/')
    }
    assert kinds.count('TopK') == kinds.count('GatherElements') == kinds.count('Split') == 4
    for node in graph.node:
        if node.op_type in ('Conv', 'TopK'):  # quantisers and compilers need initialisers
            assert node.input[1] in constants, node.name
    for block in ('layer1/layer1.1', 'layer4/layer4.1'):
        names = [node.name for node in graph.node if node.name.startswith(f'/backbone/{block}/')]
        assert f'/backbone/{block}/selector/TopK' in names
        assert f'/backbone/{block}/conv_block/conv_block.0/conv/Conv' in names


def graph_of(path):
    return pytest.importorskip('onnx').load(path).graph


@pytest.mark.parametrize('name', ['onnx', 'openvino'])
def test_half_precision(part, write, name):
    network = part('mmpretrain')
    file = write(network, name, size=(32, 32), fp16=True)
    images = torch.randn(3, 3, 32, 32)
    result = compare(network, images, file, images, tolerance=2e-2)
    assert result.agrees
    assert result.differences['scores'] > 1e-5
    if name == 'onnx':
        graph = graph_of(file.path)
        kinds = {each.name: each.data_type for each in graph.initializer}
        floats = {
            node.name: kinds[node.input[1]]
            for node in graph.node
            if node.op_type in ('Conv', 'MatMul') and node.input[1] in kinds
        }
        assert len(floats) == 28
        for node, kind in floats.items():  # 1 is float32, 10 is float16
            assert kind == (1 if '/selector/' in node else 10), node


def test_metadata(part, write, name):
    file = write(part('mmseg'), name, dynamic=(BATCH,))
    assert file.metadata['shape'] == 'batchx3x64x96'
    assert file.metadata['dtype'] == 'float32'
    assert file.metadata['outputs'] == 'logits,labels'
    assert file.metadata['config'] == 'a.py'
    assert torch.__version__ in file.metadata['exporter']
    assert ('opset' in file.metadata) == (name in ('onnx', 'openvino'))


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (torch.zeros(1, 3, 64, 64), 'accepts images batchx3x64x96 in float32, not 1x3x64x64'),
        (torch.zeros(1, 3, 64, 96, dtype=torch.uint8), 'in float32, not 1x3x64x96 in uint8'),
        (torch.zeros(3, 64, 96), 'not 3x64x96'),
    ],
)
def test_error_of_images_that_do_not_fit(part, write, name, images, message):
    file = write(part('mmpretrain'), name, dynamic=(BATCH,))
    with pytest.raises(UserError, match=message):
        file(images)


def test_error_of_files_that_are_not_exported_networks(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        open_file(tmp_path / 'a.pt')
    (tmp_path / 'a.bin').write_bytes(b'0')
    with pytest.raises(UserError, match=r'use one of \.onnx'):
        open_file(tmp_path / 'a.bin')
    for name in ('a.pt', 'a.pt2'):
        (tmp_path / name).write_bytes(b'no archive')
        with pytest.raises(UserError, match='cannot be loaded') as error:
            open_file(tmp_path / name)
        assert '\n' not in str(error.value)


# A program that cannot import this package, mmengine, mmcv or a toolbox.
ALONE = """
import sys
for package in ('mmcnnmod', 'mmengine', 'mmcv', 'mmseg', 'mmpretrain'):
    sys.modules[package] = None
import torch
images, expected = torch.load(sys.argv[2])
path = sys.argv[1]
if path.endswith('.pt'):
    network = torch.jit.load(path)
elif 'aotinductor' in sys.argv[3]:
    network = torch._inductor.aoti_load_package(path)
else:
    network = torch.export.load(path).module()
with torch.no_grad():
    found = network(images)[0]
torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
"""


@pytest.mark.parametrize(
    ('toolbox', 'name'),
    [
        ('mmpretrain', 'torchscript'),
        ('mmpretrain', 'torch-export'),
        pytest.param('mmpretrain', 'aotinductor', marks=pytest.mark.slow),
        pytest.param('mmseg', 'aotinductor', marks=pytest.mark.slow),
    ],
)
def test_torch_runs_the_file_without_this_package(part, write, tmp_path, toolbox, name):
    if name == 'aotinductor' and not hasattr(torch._inductor, 'aoti_compile_and_package'):
        pytest.skip(f'torch {torch.__version__} has no AOTInductor packages')
    if name == 'torch-export' and not hasattr(torch.export, 'Dim'):
        pytest.skip(f'torch {torch.__version__} does not export other batches')
    network = part(toolbox)
    file = write(network, name, dynamic=(BATCH,), size=(32, 64))
    images = torch.randn(3, 3, 32, 64)
    assert compare(network, images, file, images).agrees
    expected = next(iter(predicted(network.model, images).values()))
    torch.save((images, expected), tmp_path / 'images.pth')
    subprocess.run(
        [sys.executable, '-c', ALONE, file.path, tmp_path / 'images.pth', name],
        check=True, cwd=tmp_path,
    )  # fmt: skip
