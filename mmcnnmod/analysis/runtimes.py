"""The runtimes of a benchmark: torch in several ways, ONNX Runtime, OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch import _dynamo as dynamo

from ..backbones import MoDBackbone
from ..deploy.exported_file import require_packages
from ..deploy.onnx_file import start_session, traced
from ..deploy.openvino_file import compile_model
from ..errors import UserError
from ..ops import fold_batch_norms
from .measurements import Setting
from .timing import Call

# The runtimes that run an exported network, and their packages.
EXPORTED = {'onnxruntime': 'onnxruntime', 'openvino': 'openvino', 'openvino-default': 'openvino'}
CUDA_GRAPHS = ('cuda-graph', 'deploy-cuda-graph')
TRAINING = ('eager', 'compile')
MAX_COMPILED = 64


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
    with torch.cuda.stream(stream):  # warm-up: the set-up of libraries must not be captured
        for _ in range(3):
            network(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(images)

    def replay() -> nn.Module:
        graph.replay()
        return network  # keeps it alive: the graph has only the addresses of its weights

    return replay


def deployed(call: Callable[..., Call], network: nn.Module, images: Tensor) -> Call:
    """The network switched to deploy, in place; norms outside MoD backbones are folded as well."""
    for module in list(network.modules()):
        if isinstance(module, MoDBackbone):
            module.switch_to_deploy()
    fold_batch_norms(network)
    return call(network, images)


def onnx_runtime(network: nn.Module, images: Tensor) -> Call:
    """ONNX Runtime on the CPU."""
    session = start_session(to_onnx(network, images))
    inputs = {'images': images.contiguous().numpy()}
    return lambda: session.run(None, inputs)


def openvino(network: nn.Module, images: Tensor, precision: str | None = None) -> Call:
    """OpenVINO on the CPU; by default in the precision of the images."""
    from openvino import Core

    precision = precision or ('f16' if images.dtype == torch.float16 else 'f32')
    model = Core().read_model(to_onnx(network, images), b'')
    request = compile_model(model, precision).create_infer_request()
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
    'openvino-default': partial(deployed, partial(openvino, precision='default')),
}


def check_runtime(setting: Setting) -> None:
    """Raise a UserError if a setting's runtime does not support it, or its package is missing."""
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
    """Compile a network or a part of it in place, as one graph; fails if that is impossible.

    torch caches one compiled version per network of the same class. If the cache is full, it runs
    the network uncompiled without a warning, unless ``fullgraph`` is set.
    """
    dynamo.config.cache_size_limit = max(dynamo.config.cache_size_limit, MAX_COMPILED)
    part.forward = torch.compile(part.forward, dynamic=False, fullgraph=True)


def is_detector(model: nn.Module) -> bool:
    """Whether the layers after the backbone depend on the content of the images."""
    return hasattr(model, 'roi_head') or hasattr(model, 'bbox_head')


def to_onnx(network: nn.Module, images: Tensor) -> bytes:
    """Export a network to ONNX, for images of this shape only."""
    if is_detector(network):
        raise UserError("a detector's boxes depend on the image: it has no plain ONNX export")
    return traced(network, images.contiguous(), ['outputs'])
