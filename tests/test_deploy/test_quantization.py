"""Quantising exported files, and the errors of tools/deployment/quantize.py."""

import sys

import mmcv
import numpy as np
import pytest
import torch

from mmcnnmod.cli import quantize
from mmcnnmod.deploy.exported_file import BATCH
from mmcnnmod.deploy.formats import open_file
from mmcnnmod.deploy.parts import selectors
from mmcnnmod.deploy.quantization import INT8_FILES

from .conftest import CONFIGS, ROOT

NEEDED = {'onnx': 'onnxruntime', 'openvino': 'nncf'}
SUFFIXES = {'onnx': ('.onnx',), 'openvino': ('.xml', '.bin')}


@pytest.fixture(params=NEEDED)
def name(request):
    pytest.importorskip(NEEDED[request.param], reason='in requirements/runtimes.txt')
    return request.param


def edges(path):
    """The edges of a graph, each as (type, name) of its source and of its target."""
    if path.suffix == '.onnx':
        nodes = pytest.importorskip('onnx').load(path).graph.node
        makers = {output: node for node in nodes for output in node.output}
        found = [(makers[each], node) for node in nodes for each in node.input if each in makers]
        return [tuple((each.op_type, each.name) for each in pair) for pair in found]
    nodes = pytest.importorskip('openvino').Core().read_model(path).get_ordered_ops()
    found = [(value.get_node(), node) for node in nodes for value in node.input_values()]
    return [
        tuple((each.get_type_name(), each.get_friendly_name()) for each in pair) for pair in found
    ]


def test_only_layers_outside_selectors_are_in_int8(part, write, name, tmp_path):
    # OpenVINO's bug: see quantization.py about the pooling of a pyramid's last map.
    network = part('mmseg' if name == 'onnx' else 'mmdet')
    file = write(network, name, dynamic=(BATCH,), size=(64, 64))
    kind = INT8_FILES[file.path.suffix]
    images = list(torch.nn.functional.interpolate(torch.randn(4, 3, 8, 8), (64, 64)).split(1))
    out = tmp_path / f'int8{file.path.suffix}'
    kind.quantize(file.path, images, file.metadata, out)

    layers = kind.layers(out)
    assert sum('/selector/' in layer for layer in layers) == 2 * len(selectors(network)) == 8
    for layer, is_int8 in layers.items():
        assert is_int8 == ('/selector/' not in layer), layer
    assert not any(kind.layers(file.path).values())
    for (source, _), (target, name_of_target) in edges(out):
        in_selector = '/selector/' in name_of_target and not target.endswith('QuantizeLinear')
        if in_selector and '/pool/' not in name_of_target:
            assert source not in ('DequantizeLinear', 'FakeQuantize'), name_of_target

    int8_file = open_file(out, list(selectors(network)))
    assert int8_file.metadata == {**file.metadata, 'quantized': 'int8'}
    (expected, selected), (found, others) = file(images[0]), int8_file(images[0])
    assert [each.shape for each in others.values()] == [each.shape for each in selected.values()]
    for output, difference in network.differences(expected, found).items():
        assert difference < 0.1, output
        assert difference or output == 'labels'


@pytest.fixture
def config(tmp_path):
    """A config with three images of each of two classes, for training and for testing."""
    random = np.random.default_rng(0)
    for i in range(12):
        folder = f'data/{"train" if i % 2 else "test"}/{"a" if i % 4 < 2 else "b"}'
        image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        mmcv.imwrite(image, str(tmp_path / folder / f'{i}.png'))
    path = tmp_path / 'small.py'
    path.write_text(
        f"_base_ = '{ROOT}/configs/{CONFIGS['mmpretrain']}-folder.py'\n"
        'model = dict(backbone=dict(base_channels=16, stem_channels=16))\n'
        'model.update(head=dict(in_channels=128))\n'
        'train_dataloader = dict(num_workers=0)\n'
        'test_dataloader = dict(num_workers=0)\n'
    )
    return path


@pytest.fixture
def run(config, tmp_path):
    """Quantise a file through the command line."""

    def run(file, out, *options):
        arguments = [config, file, out, '--data-root', tmp_path / 'data', *options]
        quantize.main([str(argument) for argument in arguments])

    return run


@pytest.fixture
def error_of(run, capsys):
    """Quantise a file, which fails; returns the error line."""

    def error_of(*arguments):
        with pytest.raises(SystemExit) as end:
            run(*arguments)
        assert end.value.code == 1
        lines = capsys.readouterr().err.splitlines()
        lines = lines[next(i for i, line in enumerate(lines) if line.startswith('error: ')) :]
        assert len(lines) == 1, lines
        return lines[0]

    return error_of


def test_command_line(part, write, name, run, tmp_path, capsys):
    raw = name == 'onnx'  # one file with raw images, one with batches of two
    dynamic = (BATCH,) if raw else ()
    file = write(part('mmpretrain', raw=raw), name, dynamic=dynamic, size=(32, 32))
    out = tmp_path / f'out/int8{file.path.suffix}'
    run(file.path, out, '--samples', 5)
    printed = capsys.readouterr().out
    assert f'written: {out} (21 convolutions and matrix products in int8, 8 in float; ' in printed
    assert '6 test images: differences from float, of the largest value: scores ' in printed
    assert '% of the channels' in printed
    assert {each.suffix for each in out.parent.iterdir()} == set(SUFFIXES[name])
    images = torch.randint(0, 256, (2, 3, 32, 32)).to(torch.uint8 if raw else torch.float32)
    assert open_file(out)(images)[0]['scores'].sum(1).tolist() == pytest.approx([1, 1], abs=1e-3)


def test_errors_are_one_line(part, write, run, error_of, tmp_path):
    pytest.importorskip('onnxruntime', reason='in requirements/runtimes.txt')

    def write_classifier(size=(32, 32), **options):
        return write(part('mmpretrain'), 'onnx', dynamic=(BATCH,), size=size, **options).path

    file = write_classifier()
    out = tmp_path / 'out/int8.onnx'
    setting = '--cfg-options'
    for arguments, message in (
        (('a.pt', out), 'a.pt: int8 is for ONNX Runtime and OpenVINO only'),
        (('a.pt2', out), 'export a file that ends with .onnx or .xml'),
        (('nowhere.onnx', out), 'nowhere.onnx does not exist'),
        ((file, 'a.xml'), 'a.xml: OUT must be another file that ends with .onnx'),
        ((file, file), 'network.onnx: OUT must be another file that ends with .onnx'),
        ((file, out, '--samples', 0), '--samples 0: use a number above 0'),
        ((file, out, setting, 'train_dataloader=None'), 'has no train_dataloader'),
        ((file, out, '--data-root', 'nowhere'), 'nowhere does not exist'),
        (
            (file, out, setting, 'train_dataloader.dataset.indices=0'),
            'the data set finds no images; check its ann_file',
        ),
    ):
        assert message in error_of(*arguments)
        assert not out.parent.exists()

    run(file, out)
    assert 'int8.onnx is already int8' in error_of(out, tmp_path / 'b.onnx')
    for options, message in (
        (dict(size=(64, 64)), 'accepts images batchx3x64x64 in float32, not 1x3x32x32 in float32'),
        (dict(fp16=True), 'is in half precision; export it without --fp16'),
    ):
        assert message in error_of(write_classifier(**options), out)
        assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_error_of_missing_package(error_of, name, monkeypatch):
    monkeypatch.setitem(sys.modules, NEEDED[name], None)
    suffix = '.onnx' if name == 'onnx' else '.xml'
    line = error_of(f'a{suffix}', f'b{suffix}')
    assert f'pip install {NEEDED[name]} (tested versions: requirements/runtimes.txt)' in line
