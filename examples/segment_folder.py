"""Draw the predictions of an exported segmentor for a folder of images, without torch.

    python examples/segment_folder.py NETWORK.onnx IMAGES OUT

NETWORK.onnx is a file of tools/deployment/export.py; its metadata say how to prepare images. The
program needs numpy, Pillow and onnxruntime.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def prepare(image: Image.Image, notes: dict[str, str]) -> np.ndarray:
    """Convert an image to the input of the network, shape (1, 3, H, W)."""
    _, _, height, width = notes['shape'].split('x')
    if height.isdigit():
        image = image.resize((int(width), int(height)), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if notes['channels'] == 'BGR':
        pixels = pixels[:, :, ::-1]
    if notes['normalized'] == 'yes':
        mean, std = (np.float32(json.loads(notes[key]) or default)
                     for key, default in (('mean', 0), ('std', 1)))  # fmt: skip
        pixels = (pixels - mean) / std
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.dtype(notes['dtype']))


def main(network: str, folder: str, out: str) -> None:
    """Write an overlay of image and prediction for each image of a folder."""
    session = onnxruntime.InferenceSession(network, providers=['CPUExecutionProvider'])
    notes = session.get_modelmeta().custom_metadata_map
    colors = json.loads(notes['palette']) or np.random.default_rng(0).integers(0, 256, (256, 3))
    Path(out).mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(folder).glob('*.[jpJP]*[gG]')):
        image = Image.open(path).convert('RGB')
        (labels,) = session.run(['labels'], {'images': prepare(image, notes)})
        drawn = Image.fromarray(np.uint8(colors)[labels[0]]).resize(
            image.size, Image.Resampling.NEAREST
        )
        Image.blend(image, drawn, 0.5).save(Path(out, f'{path.stem}.png'))
        print(Path(out, f'{path.stem}.png'))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ('network', 'folder', 'out'):
        parser.add_argument(name)
    main(**vars(parser.parse_args()))
