"""ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from .exported_file import AXES, Export, ExportedFile

# The first opset with LayerNormalization and with RoiAlign at half pixels; torch 2.1 writes it.
OPSET = 17
ROOT = '/model'  # prefix of node names: Part keeps its model under this name
TOPK = '/selector/TopK'  # suffix of the nodes whose second output is the selected channels


class OnnxFile(ExportedFile):
    """ONNX, written by torch's TorchScript-based exporter.

    Both tested versions of torch have this exporter, and it names every node after its module. The
    newer exporter (dynamo) writes an equally good graph, but numbers the nodes and stores the paths
    of local source files in it.
    """

    suffix = '.onnx'
    packages = ('onnx', 'onnxruntime')
    supports_fp16 = True

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        import onnx

        onnx.save(to_onnx(export), path)

    def _load(self, precision: str) -> dict[str, str]:
        import onnx

        model = onnx.load(self.path)
        nodes = {selector_of(node.name): node for node in model.graph.node}
        self.selectors = [name for name in self.selectors if name in nodes]
        for name in self.selectors:  # the selections become outputs of the graph
            model.graph.output.append(onnx.ValueInfoProto(name=nodes[name].output[1]))
        self.session = start_session(model.SerializeToString())
        return {entry.key: entry.value for entry in model.metadata_props}

    def _compute(self, images: Tensor) -> list[Tensor]:
        arrays = self.session.run(None, {'images': images.numpy()})
        return [torch.from_numpy(array) for array in arrays]


def start_session(graph: bytes):
    """Load a serialised graph into ONNX Runtime, on the CPU with torch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(graph, options, providers=['CPUExecutionProvider'])


def to_onnx(export: Export):
    """Export a network to ONNX.

    Returns:
        onnx.ModelProto: Its nodes are named after the modules of the model, such as
        '/backbone/layer1/layer1.1/selector/TopK'.
    """
    import onnx

    axes = {axis: AXES[axis] for axis in export.dynamic}
    model = onnx.load_from_string(traced(export.part, export.images, export.part.names, axes))
    for node in list(model.graph.node):
        node.name = node.name.removeprefix(ROOT)
        if node.op_type == 'Constant':  # TensorRT needs the k of TopK among the initialisers
            model.graph.initializer.add().CopyFrom(node.attribute[0].t)
            model.graph.initializer[-1].name = node.output[0]
            model.graph.node.remove(node)
    if export.fp16:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        in_float = [node.name for node in model.graph.node if '/selector/' in node.name]
        model = convert_float_to_float16(model, keep_io_types=True, node_block_list=in_float)
    metadata = export.metadata('torch.onnx.export (TorchScript-based)')
    onnx.helper.set_model_props(model, {**metadata, 'opset': str(OPSET)})
    return model


def traced(
    network: nn.Module, images: Tensor, names: Sequence[str], axes: dict[int, str] | None = None
) -> bytes:
    """Trace a network to ONNX, without metadata.

    Args:
        network (nn.Module): Maps images to one or more tensors.
        images (Tensor): An example input.
        names (Sequence[str]): Names of the outputs.
        axes (dict[int, str], optional): Names of the dynamic axes of the images. Defaults to None,
            no dynamic axes.

    Returns:
        bytes: The serialised graph; its input is called 'images'.
    """
    # Before torch 2.5 there was no other exporter to choose.
    only = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    buffer = BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Warns that values which depend on the shape become constants, and that it is legacy.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            (images,),
            buffer,
            input_names=['images'],
            output_names=list(names),
            dynamic_axes={'images': axes or {}},
            opset_version=OPSET,
            **only,
        )
    return buffer.getvalue()


def selector_of(node: str) -> str | None:
    """The selector that a TopK node belongs to, such as 'layer1.1.selector'; else None.

    A node in a container repeats the container's name: '/layer1/layer1.1/selector/TopK'.
    """
    if not node.endswith(TOPK):
        return None
    scopes = node.split('/')[1:]
    return '.'.join(scope for scope, inner in pairwise(scopes) if not inner.startswith(f'{scope}.'))
