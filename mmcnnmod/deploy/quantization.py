"""Quantise exported files to int8, with the ranges of the values measured on images.

For CPUs with VNNI (Intel from 2019, AMD from Zen 4): older ones add products of int8 in 16 bits,
which may overflow.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..errors import UserError
from .onnx_file import OnnxFile
from .openvino_file import SECTION, OpenVinoFile

KEY = 'quantized'  # in the metadata of a quantised file
# Names of the nodes that stay in float: those of the selectors, because rounding would change the
# selected channels or their order, and those outside all layers: normalisation, softmax, labels,
# boxes.
IN_FLOAT = r'(.*/selector/.*|/[^/]+)$'
LAYERS = ('Convolution', 'GroupConvolution', 'ConvolutionBackpropData', 'MatMul')  # in OpenVINO


class Int8OnnxFile(OnnxFile):
    """ONNX with QuantizeLinear and DequantizeLinear, which a runtime fuses into int8 operators."""

    @classmethod
    def quantize(
        cls, path: Path, images: Sequence[Tensor], metadata: dict[str, str], out: Path
    ) -> None:
        """Quantise a file, with one scale for each output channel and each activation.

        Args:
            path (Path): The file in float32.
            images (Sequence[Tensor]): Batches of inputs of the file. Activations get the range from
                their lowest to their highest value on these images.
            metadata (dict[str, str]): Metadata of the new file.
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
        # Silences the advice to preprocess the model, which would add operators that only ONNX
        # Runtime has; it runs the same graph in the end.
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
        """Names of all convolutions and matrix products, and whether they are in int8."""
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
        # Reshaped weights, those of depthwise convolutions, would otherwise be saved in float.
        folding = Manager()
        folding.register_pass(ConstantFolding())
        folding.run_passes(model)
        # OpenVINO 2026.4 scales the output of a last pooling twice (such as the last map of a
        # pyramid) unless the outputs are quantised.
        outputs = [result.input_value(0).get_node() for result in model.get_results()]
        model = nncf.quantize(
            model,
            nncf.Dataset(images, lambda batch: batch.numpy()),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(patterns=[IN_FLOAT], validate=False),
            # The defaults changed selections and outputs: ranges that are means over the images,
            # corrected biases, and 7 bits for the first layer's weights.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                disable_bias_correction=True,
                overflow_fix=nncf.OverflowFix.DISABLE,
                quantize_outputs=any(node.get_type_name() == 'MaxPool' for node in outputs),
            ),
        )
        for name, value in {**metadata, KEY: 'int8'}.items():
            model.set_rt_info(value, [SECTION, name])
        openvino.save_model(model, out, compress_to_fp16=False)

    @classmethod
    def layers(cls, path: Path) -> dict[str, bool]:
        """See :class:`Int8OnnxFile`."""
        import openvino

        found = {}
        for node in openvino.Core().read_model(path).get_ordered_ops():
            if node.get_type_name() in LAYERS:
                weights = node.input_value(1).get_node()
                while weights.inputs():  # Convert and Multiply come between
                    weights = weights.input_value(0).get_node()
                is_int8 = weights.get_element_type().get_type_name() == 'i8'
                found[node.get_friendly_name()] = is_int8
        return found


INT8_FILES = {kind.suffix: kind for kind in (Int8OnnxFile, Int8OpenVinoFile)}
