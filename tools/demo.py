"""Train an FCN with a ResNet-MoD backbone: python tools/demo.py (a few minutes on a CPU).

It generates street scenes in the layout of Cityscapes, trains on them with tools/train.py, tests
the result with tools/test.py and draws predictions beside the ground truth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / 'configs' / 'fcn_r18-mod_street-scenes.py'
GOAL = 0.40  # mIoU over the 19 classes
GOAL_FACTOR = 5  # times the score of the best constant prediction
IGNORED = 255  # the label of pixels without a class
DRAWN_SCENES = 4


def main() -> None:
    """Run the demo; exit code 1 if the score is too low."""
    args = parse_args()
    data, work_dir = Path(args.data), Path(args.work_dir)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []

    step('1/4 Street scenes', f'to {data}')
    sizes = ['--train', str(args.train), '--val', str(args.val)]
    run('dataset_tools/generate_data.py', 'cityscapes', data, *sizes)

    common = ['--data-root', data, '--work-dir', work_dir]
    step('2/4 Training', f'logs and checkpoints in {work_dir}')
    run('train.py', CONFIG, *common, *options)

    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    step('3/4 Testing', str(checkpoint))
    config = work_dir / CONFIG.name  # it contains all options of the training
    run('test.py', config, checkpoint, *common)

    picture = work_dir / 'predictions.png'
    step('4/4 Pictures', str(picture))
    draw_predictions(config, checkpoint, data, picture)

    score, constant = newest_score(work_dir), constant_score(data)
    print(f'\nmIoU of the network:                  {score:.3f} (goal {GOAL:.2f})')
    print(f'mIoU of the best constant prediction: {constant:.3f} (ratio {score / constant:.1f})')
    print(f'picture, truth and prediction:        {picture}')
    if score < GOAL or score < GOAL_FACTOR * constant:
        sys.exit('error: the score is too low; see the log in the work dir')


def parse_args() -> argparse.Namespace:
    """Options of the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', default='data/street-scenes', help='folder for the scenes')
    parser.add_argument('--work-dir', default='work_dirs/demo', help='folder for the results')
    parser.add_argument('--train', type=int, default=200, help='number of training scenes')
    parser.add_argument('--val', type=int, default=40, help='number of validation scenes')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as for tools/train.py'
    )
    return parser.parse_args()


def step(title: str, what: str) -> None:
    """Announce a step."""
    print(f'\n=== {title}: {what}', flush=True)


def run(tool: str, *arguments: object) -> None:
    """Run a program of tools/; exit with its exit code if it fails."""
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    result = subprocess.run(command, check=False)
    if result.returncode != 0:
        sys.exit(result.returncode)


def newest_score(work_dir: Path) -> float:
    """The last mIoU, from 0 to 1, that tools/test.py wrote."""
    newest = max(work_dir.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text())['mIoU'] / 100


def constant_score(data: Path) -> float:
    """The mIoU, from 0 to 1, of predicting the most frequent class everywhere."""
    counts = np.zeros(IGNORED + 1, dtype=np.int64)
    for path in truth_files(data):
        counts += np.bincount(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ravel(), minlength=256)
    counts = counts[:IGNORED]
    return counts.max() / counts.sum() / np.count_nonzero(counts)


def truth_files(data: Path) -> list[Path]:
    """The label maps of the validation scenes."""
    return sorted(data.glob('gtFine/val/*/*_labelTrainIds.png'))


def draw_predictions(config: Path, checkpoint: Path, data: Path, target: Path) -> None:
    """Draw picture, ground truth and prediction side by side, for some validation scenes."""
    from mmseg.apis import inference_model, init_model

    from mmcnnmod.checkpoints import safe_loading

    with safe_loading():
        model = init_model(str(config), str(checkpoint), device='cpu')
    palette = np.zeros((IGNORED + 1, 3), np.uint8)
    colours = np.array(model.dataset_meta['palette'], np.uint8)
    palette[: len(colours)] = colours[:, ::-1]  # RGB to OpenCV's BGR
    rows = []
    for path in truth_files(data)[:DRAWN_SCENES]:
        name = path.name.replace('_gtFine_labelTrainIds', '_leftImg8bit')
        image_path = data / 'leftImg8bit' / 'val' / path.parent.name / name
        truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        predicted = inference_model(model, str(image_path)).pred_sem_seg.data[0].numpy()
        rows.append(np.hstack([cv2.imread(str(image_path)), palette[truth], palette[predicted]]))
    cv2.imwrite(str(target), np.vstack(rows))


if __name__ == '__main__':
    main()
