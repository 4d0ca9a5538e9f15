"""Exported files in int8: the ranges of the values in a network are measured on images.

They are for CPUs with VNNI (Intel from 2019, AMD from Zen 4). Older ones add up products of int8
in 16 bits, which may overflow.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError, cause
from .onnx_file import OnnxFile
from .openvino_file import SECTION, OpenVinoFile

KEY = 'quantized'  # in a file's metadata, which has it only in int8
# The nodes that stay in float, by their names: the selectors, for near logits decide which channels
# are processed, and in which order; and what is in no layer: normalisation, softmax, labels, boxes.
IN_FLOAT = r'(.*/selector/.*|/[^/]+)$'
LAYERS = ('Convolution', 'GroupConvolution', 'ConvolutionBackpropData', 'MatMul')  # in OpenVINO


class Int8OnnxFile(OnnxFile):
    """ONNX with QuantizeLinear and DequantizeLinear, which a runtime fuses into int8 operators."""

    files = ('.onnx',)

    @classmethod
    def quantize(
        cls, path: Path, images: Sequence[Tensor], metadata: dict[str, str], out: Path
    ) -> None:
        """Write a file in int8, with a scale for each output channel and for each activation.

        Args:
            path (Path): The file in float32.
            images (Sequence[Tensor]): Batches as it takes them. The lowest and the highest value
                of each activation on them become its range.
            metadata (dict[str, str]): What is written into the new file.
            out (Path): The new file.
        """
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

        class Reader(CalibrationDataReader):
            batches = iter(images)

            def get_next(self) -> dict | None:
                batch = next(self.batches, None)
                return None if batch is None else {'images': batch.numpy()}

        model = onnx.load(path)
        if any(each.data_type == onnx.TensorProto.FLOAT16 for each in model.graph.initializer):
            raise UserError(f'{path} is in half precision; export it without --fp16')
        # Without this it recommends its preparation, which would put operators into the file that
        # only ONNX Runtime has; the graph that it runs in the end is the same.
        onnx.helper.set_model_props(model, {'onnx.quant.pre_process': 'onnxruntime.quant'})
        quantize_static(
            model,
            out,
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,  # with int8 weights the fastest on an x86 CPU
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[
                node.name for node in model.graph.node if re.match(IN_FLOAT, node.name)
            ],
        )
        model = onnx.load(out)
        onnx.helper.set_model_props(model, {**metadata, KEY: 'int8'})
        onnx.save(model, out)

    @classmethod
    def layers(cls, path: Path) -> dict[str, bool]:
        """Whether they are in int8, of all convolutions and matrix products by name."""
        import onnx

        nodes = onnx.load(path).graph.node
        makers = {name: node.op_type for node in nodes for name in node.output}
        return {
            node.name: all(makers.get(name) == 'DequantizeLinear' for name in node.input[:2])
            for node in nodes
            if node.op_type in ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
        }


class Int8OpenVinoFile(OpenVinoFile):
    """OpenVINO's format with FakeQuantize, by NNCF."""

    packages = (*OpenVinoFile.packages, 'nncf')
    files = ('.xml', '.bin')

    @classmethod
    def check_packages(cls) -> None:
        """See :class:`ExportedFile`."""
        try:
            super().check_packages()
        except AttributeError as problem:  # it uses types that torch has from 2.3
            raise UserError(
                f'nncf does not load beside torch {torch.__version__}: {cause(problem)}; write the '
                'file where torch is newer, it runs here as well'
            ) from problem

    @classmethod
    def quantize(
        cls, path: Path, images: Sequence[Tensor], metadata: dict[str, str], out: Path
    ) -> None:
        """See :class:`Int8OnnxFile`."""
        import nncf
        import openvino
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
        from openvino.passes import ConstantFolding, Manager

        nncf.set_log_level(logging.ERROR)
        model = openvino.Core().read_model(path)
        # Weights that are reshaped, those of depthwise convolutions, would be saved in float.
        folding = Manager()
        folding.register_pass(ConstantFolding())
        folding.run_passes(model)
        model = nncf.quantize(
            model,
            nncf.Dataset(images, lambda batch: batch.numpy()),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(patterns=[IN_FLOAT], validate=False),
            # By default ranges are means over the images, biases are corrected, and the first
            # layer's weights get 7 bits. Each of these led to other selections and outputs.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                disable_bias_correction=True,
                overflow_fix=nncf.OverflowFix.DISABLE,
                quantize_outputs=pools_into_output(model),
            ),
        )
        for name, value in {**metadata, KEY: 'int8'}.items():
            model.set_rt_info(value, [SECTION, name])
        openvino.save_model(model, out, compress_to_fp16=False)

    @classmethod
    def layers(cls, path: Path) -> dict[str, bool]:
        """See :class:`Int8OnnxFile`."""
        import openvino

        return {
            node.get_friendly_name(): has_int8_weights(node)
            for node in openvino.Core().read_model(path).get_ordered_ops()
            if node.get_type_name() in LAYERS
        }


def pools_into_output(model) -> bool:
    """Whether an output is pooled, as the last map of a pyramid is.

    OpenVINO (2026.4) multiplies it twice by the scales of the layer before if no quantised value
    lies between the two.
    """
    sources = [result.input_value(0).get_node() for result in model.get_results()]
    return any(source.get_type_name() == 'MaxPool' for source in sources)


def has_int8_weights(node) -> bool:
    """Whether the second input of an operator of OpenVINO comes from a constant in int8."""
    source = node.input_value(1).get_node()
    while source.inputs():  # Convert, Multiply
        source = source.input_value(0).get_node()
    return source.get_element_type().get_type_name() == 'i8'


INT8_FILES = {kind.suffix: kind for kind in (Int8OnnxFile, Int8OpenVinoFile)}
