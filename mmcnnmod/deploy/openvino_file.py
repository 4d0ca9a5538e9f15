"""OpenVINO's files: the graph as .xml, the weights beside it as .bin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .exported_file import Export, ExportedFile
from .onnx_file import selector_of, to_onnx

SECTION = 'mmcnnmod'  # of the file's runtime information


class OpenVinoFile(ExportedFile):
    """OpenVINO's format, converted from the ONNX graph."""

    suffix = '.xml'
    weights_suffix = '.bin'
    packages = ('onnx', 'openvino')
    supports_fp16 = True
    precisions = ('f32', 'default')

    @classmethod
    def write(cls, export: Export, path: Path) -> None:
        """See :class:`ExportedFile`; with ``fp16`` the weights are stored in half precision."""
        import openvino

        graph = to_onnx(replace(export, fp16=False))
        model = openvino.Core().read_model(graph.SerializeToString(), b'')
        for entry in graph.metadata_props:
            model.set_rt_info(entry.value, [SECTION, entry.key])
        openvino.save_model(model, path, compress_to_fp16=export.fp16)

    def _load(self, precision: str) -> dict[str, str]:
        import openvino

        model = openvino.Core().read_model(self.path)
        metadata = model.get_rt_info([SECTION]).astype(dict)
        nodes = {selector_of(node.get_friendly_name()): node for node in model.get_ops()}
        self.selectors = [name for name in self.selectors if name in nodes]
        for name in self.selectors:
            model.add_outputs(nodes[name].output(1))
        compiled = compile_model(model, precision)
        self.precision = compiled.get_property('INFERENCE_PRECISION_HINT').to_string()
        self.request = compiled.create_infer_request()
        return {key: str(value.astype(str)) for key, value in metadata.items()}

    def _compute(self, images: Tensor) -> list[Tensor]:
        results = self.request.infer([images.numpy()])
        return [torch.from_numpy(array.copy()) for array in results.values()]


def compile_model(model, precision: str):
    """Compile an ``openvino.Model`` for the CPU, with torch's number of threads.

    Args:
        model (openvino.Model): The model.
        precision (str): 'f32', 'f16', or 'default' for OpenVINO's own choice.
    """
    import openvino

    settings = {'INFERENCE_NUM_THREADS': torch.get_num_threads(), 'PERFORMANCE_HINT': 'LATENCY'}
    if precision != 'default':
        settings['INFERENCE_PRECISION_HINT'] = precision
    return openvino.Core().compile_model(model, 'CPU', settings)
