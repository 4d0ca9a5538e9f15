"""The runtimes of a benchmark: torch in several ways, ONNX Runtime, OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from torch import Tensor, nn
from torch import _dynamo as dynamo

from ..backbones import MoDBackbone
from ..deploy.exported_file import require_packages
from ..deploy.onnx_file import traced
from ..errors import UserError
from ..ops import fold_batch_norms
from .measurements import Setting
from .timing import Call


def eager(network: nn.Module, images: Tensor) -> Call:
    """Plain PyTorch."""
    return lambda: network(images)


def compiled(network: nn.Module, images: Tensor) -> Call:
    """torch.compile; of a detector only the backbone, because the rest depends on the images."""
    compile_forward(network.backbone if is_detector(network) else network)
    return eager(network, images)


def cuda_graph(network: nn.Module, images: Tensor) -> Call:
    """A CUDA graph: all kernels are launched at once."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # warm up: what libraries set up must not be captured
        for _ in range(3):
            network(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(images)

    def replay() -> nn.Module:
        graph.replay()
        return network  # kept alive: the graph only has the addresses of its weights

    return replay


def deployed(call: Callable[..., Call], network: nn.Module, images: Tensor) -> Call:
    """The network switched to deploy, in place; all norms outside MoD backbones are folded too."""
    for module in list(network.modules()):
        if isinstance(module, MoDBackbone):
            module.switch_to_deploy()
    fold_batch_norms(network)
    return call(network, images)


def onnx_runtime(network: nn.Module, images: Tensor) -> Call:
    """ONNX Runtime on the CPU."""
    onnxruntime = import_module('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        to_onnx(network, images), options, providers=['CPUExecutionProvider']
    )
    inputs = {'images': images.contiguous().numpy()}
    return lambda: session.run(None, inputs)


def openvino(network: nn.Module, images: Tensor) -> Call:
    """OpenVINO on the CPU, in the precision of the network."""
    precision = 'f16' if images.dtype == torch.float16 else 'f32'
    return openvino_default(network, images, INFERENCE_PRECISION_HINT=precision)


def openvino_default(network: nn.Module, images: Tensor, **more: str) -> Call:
    """OpenVINO on the CPU, in its default precision: bf16 where the CPU has it."""
    core = import_module('openvino').Core()
    settings = {'INFERENCE_NUM_THREADS': torch.get_num_threads(), 'PERFORMANCE_HINT': 'LATENCY'}
    model = core.read_model(to_onnx(network, images), b'')
    request = core.compile_model(model, 'CPU', {**settings, **more}).create_infer_request()
    inputs = [images.contiguous().numpy()]
    return lambda: request.infer(inputs)


RUNTIMES: dict[str, Callable[[nn.Module, Tensor], Call]] = {
    'eager': eager,
    'deploy': partial(deployed, eager),
    'compile': compiled,
    'deploy-compile': partial(deployed, compiled),
    'cuda-graph': cuda_graph,
    'deploy-cuda-graph': partial(deployed, cuda_graph),
    'onnxruntime': partial(deployed, onnx_runtime),
    'openvino': partial(deployed, openvino),
    'openvino-default': partial(deployed, openvino_default),
}
TRAINING = ('eager', 'compile')
# Those that run an exported network, and their packages.
EXPORTED = {'onnxruntime': 'onnxruntime', 'openvino': 'openvino', 'openvino-default': 'openvino'}
CUDA_GRAPHS = ('cuda-graph', 'deploy-cuda-graph')
MOST_COMPILED = 64


def check_runtime(setting: Setting) -> None:
    """Raise a UserError if the runtime of a setting is missing or does not support it."""
    name = setting.runtime
    if setting.training and name not in TRAINING:
        raise UserError(f'{name} cannot train; choose from {", ".join(TRAINING)}')
    if name in CUDA_GRAPHS and setting.device != 'cuda':
        raise UserError(f'{name} needs a GPU: remove it, or use --device cuda')
    if name not in EXPORTED:
        return
    if setting.device != 'cpu':
        raise UserError(f'{name} runs on the CPU: use --device cpu, or remove it')
    if setting.dtype == 'bfloat16':
        raise UserError(f'{name} does not accept bfloat16 images: remove it')
    require_packages([EXPORTED[name]])


def compile_forward(part: nn.Module) -> None:
    """Compile a network or a part of it, in place, as one graph or not at all.

    torch caches what it compiles per forward method, one entry for each network that is compared.
    When the cache is full it runs uncompiled without a word, unless ``fullgraph`` is set.
    """
    dynamo.config.cache_size_limit = max(dynamo.config.cache_size_limit, MOST_COMPILED)
    part.forward = torch.compile(part.forward, dynamic=False, fullgraph=True)


def is_detector(model: nn.Module) -> bool:
    """Whether what a model does after the backbone depends on the images."""
    return hasattr(model, 'roi_head') or hasattr(model, 'bbox_head')


def to_onnx(network: nn.Module, images: Tensor) -> bytes:
    """A network as ONNX, for images of just this shape."""
    if is_detector(network):
        raise UserError("a detector's boxes depend on the image: it has no plain ONNX export")
    return traced(network, images.contiguous(), ['outputs'])
