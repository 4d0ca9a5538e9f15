"""Command-line options: those of the toolboxes' own tools, and a few more."""

from __future__ import annotations

import argparse
import os

from mmengine.config import DictAction

from ..errors import cause

# Options that several programs have.
SHARED = {
    '--data-root': dict(
        metavar='DIR', help="the folder of the data set, instead of the config's data_root"
    ),
    '--deploy': dict(
        action='store_true',
        help='run the deployed form of the MoD backbone: folded batch norms, and on a CPU one '
        'operator for each MoD block',
    ),
    '--device': dict(
        choices=['auto', 'cpu', 'cuda'],
        default='auto',
        help='auto uses the GPU if there is one; cuda fails without one',
    ),
    '--trust-checkpoint': dict(
        action='store_true',
        help='read checkpoints that are refused because they could run code on this machine',
    ),
    '--debug': dict(action='store_true', help='show the traceback of an error, too'),
}


def train_parser() -> argparse.ArgumentParser:
    """The parser of tools/train.py."""
    parser = config_parser(
        'Train the classifier, segmentor or detector of a config.', checkpoint=False
    )
    add_train(parser)
    return parser


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of tools/train.py, which tools/experiments/run.py has as well."""
    add_common(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; by default from the newest in the work dir',
    )
    parser.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='initialise the backbone from this checkpoint of a backbone or of a whole model',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size, by auto_scale_lr of the config',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not evaluate during training'
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='restart the data loading processes in every epoch',
    )


def test_parser() -> argparse.ArgumentParser:
    """The parser of tools/test.py."""
    parser = config_parser('Evaluate a trained classifier, segmentor or detector.')
    add_common(parser)
    parser.add_argument(
        '--out', help='save the predictions: a .pkl file (mmpretrain, mmdet) or a folder (mmseg)'
    )
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out saves: the scores, or the predictions (default)',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='save pictures of the predictions in this folder')
    parser.add_argument('--interval', type=int, default=1, help='draw every n-th sample')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each window')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_shared(parser, '--deploy')
    return parser


def visualize_parser() -> argparse.ArgumentParser:
    """The parser of tools/visualize.py."""
    parser = config_parser('Predict and draw the classes, label maps or boxes of pictures.')
    parser.add_argument('pictures', nargs='+', metavar='PICTURE', help='image files or folders')
    parser.add_argument(
        '--out-dir',
        '--work-dir',
        dest='work_dir',
        metavar='DIR',
        default='work_dirs/visualize',
        help='folder for the pictures; default work_dirs/visualize',
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='detectors: lowest score to draw; default 0.3'
    )
    add_shared(parser, '--deploy', '--device')
    add_cfg_options(parser)
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; set LOCAL_RANK, which mmengine reads."""
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


class KeyValueAction(DictAction):
    """KEY=VALUE pairs, with a clear error for other values, such as a CONFIG that follows."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse the pairs."""
        for value in values:
            if '=' not in value:
                text = ' '.join(value.split())[:80]
                option = option_string
                parser.error(f'{option} takes KEY=VALUE only, got {text}; put it before {option}')
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, RecursionError) as problem:  # unbalanced or too deep brackets
            parser.error(f'{option_string}: {cause(problem)}')


def config_parser(description: str, checkpoint: bool = True) -> argparse.ArgumentParser:
    """A parser for CONFIG [CHECKPOINT], with defaults for the values that ``load_config`` reads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file of this project or of a toolbox')
    if checkpoint:
        parser.add_argument('checkpoint', help='checkpoint file')
    parser.set_defaults(launcher='none', data_root=None, work_dir=None)
    parser.set_defaults(no_pin_memory=False, no_persistent_workers=False)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of the programs that build a runner."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and scores')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    add_shared(parser, '--data-root', '--device')
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory in the data loaders'
    )
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # Some versions of torchrun pass the first spelling, some the second.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options of ``SHARED``."""
    for name in names:
        parser.add_argument(name, **SHARED[name])


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every program that reads a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='override settings: optim_wrapper.optimizer.lr=0.1, key="[a,b]", key=a,b',
    )
    parser.add_argument(
        '--mod',
        nargs='*',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='replace the backbones of a dense config by MoD backbones that start from its dense '
        'weights; optionally with another depth or MoD options: --mod depth=75 c=32',
    )
    add_shared(parser, '--trust-checkpoint', '--debug')
