"""Export a trained network to another runtime, and check that its outputs are those of PyTorch.

    python tools/deployment/export.py CONFIG CHECKPOINT OUT.onnx

OUT ends with .onnx (ONNX Runtime, TensorRT), .xml (OpenVINO), .pt (TorchScript) or .pt2
(torch.export; with --format aotinductor compiled).
"""

import sys

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('export')
