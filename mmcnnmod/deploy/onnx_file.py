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

# The first with LayerNormalization, and RoiAlign at half pixels; torch 2.1 writes it.
OPSET = 17
ROOT = '/model'  # the scope of a part's model in the names of nodes
CHOICE = '/selector/TopK'  # whose second output is the chosen channels


class OnnxFile(ExportedFile):
    """ONNX by the exporter of torch that traces TorchScript.

    Both stacks have it, and it names every node after its module. The newer exporter (dynamo) was
    tried: as good a graph, but numbered nodes and the paths of this machine's files in it.
    """

    suffix = '.onnx'
    packages = ('onnx', 'onnxruntime')
    takes_fp16 = True

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`."""
        import onnx

        onnx.save(to_onnx(export), path)

    def open(self, precision: str) -> None:
        """See :class:`ExportedFile`; the selectors' choices become outputs of the graph."""
        import onnx
        import onnxruntime

        model = onnx.load(self.path)
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        nodes = {selector_of(node.name): node for node in model.graph.node}
        self.selectors = [name for name in self.selectors if name in nodes]
        for name in self.selectors:
            model.graph.output.append(onnx.ValueInfoProto(name=nodes[name].output[1]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=['CPUExecutionProvider']
        )

    def compute(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """See :class:`ExportedFile`."""
        found = self.session.run(None, {'images': images.numpy()})
        tensors = [torch.from_numpy(array) for array in found]
        return split(tensors, len(self.selectors))


def to_onnx(export: Export):
    """Trace a part.

    Args:
        export (Export): What to write.

    Returns:
        onnx.ModelProto: Its nodes are named after the modules of the model, such as
        '/backbone/layer1/layer1.1/selector/TopK'.
    """
    import onnx

    axes = {axis: AXES[axis] for axis in export.dynamic}
    model = onnx.load_from_string(traced(export.part, export.images, export.part.names, axes))
    for node in list(model.graph.node):
        node.name = node.name.removeprefix(ROOT)
        if node.op_type == 'Constant':  # TensorRT wants the k of TopK among the initialisers
            model.graph.initializer.add().CopyFrom(node.attribute[0].t)
            model.graph.initializer[-1].name = node.output[0]
            model.graph.node.remove(node)
    if export.fp16:
        model = halve(model)
    metadata = export.metadata('torch.onnx.export (TorchScript-based)')
    onnx.helper.set_model_props(model, {**metadata, 'opset': str(OPSET)})
    return model


def traced(
    network: nn.Module, images: Tensor, names: Sequence[str], axes: dict[int, str] | None = None
) -> bytes:
    """A network as ONNX, without what a file says of itself.

    Args:
        network (nn.Module): From images to one or more tensors.
        images (Tensor): An example.
        names (Sequence[str]): Of its outputs.
        axes (dict[int, str], optional): Names for axes of the images that may have another size.
            Defaults to none.

    Returns:
        bytes: The serialised graph, whose input is 'images'.
    """
    # Before torch 2.5 there was no other exporter to choose.
    only = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    buffer = BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')  # of constants that depend on the shape, and of its age
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


def halve(model):
    """Half precision but for images, outputs and selectors; by a tool of ONNX Runtime."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    kept = [node.name for node in model.graph.node if '/selector/' in node.name]
    return convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)


def selector_of(node: str) -> str | None:
    """The selector whose choice a node gives: 'layer1.1.selector' for what it is named after.

    Within a container its name stands once more: '/layer1/layer1.1/selector/TopK'.
    """
    if not node.endswith(CHOICE):
        return None
    scopes = node.split('/')[1:]
    return '.'.join(scope for scope, inner in pairwise(scopes) if not inner.startswith(f'{scope}.'))


def split(tensors: list[Tensor], selectors: int) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and choices; these were added last."""
    outputs = len(tensors) - selectors
    return tensors[:outputs], tensors[outputs:]
