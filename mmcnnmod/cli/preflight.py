"""Checks before a run starts, so that it does not fail after an hour."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn
from torch.utils.data import Dataset

from ..checkpoints import (
    describe_contents,
    has_mod_blocks,
    is_trusting,
    judge,
    match_state_dicts,
    read_checkpoint,
    weights_of,
)
from ..config_types import type_name
from ..datasets import unwrap_dataset
from ..datasets.labels import count_classes, heads
from ..errors import UserError
from .config import innermost_datasets
from .errors import NO_IMAGES

# Data sets that mmpretrain downloads.
DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check(cfg: Config, device: str, loaders: tuple[str, ...], training: bool = False) -> None:
    """Raise the errors that can be found before a model is built.

    Args:
        cfg (Config): The config. ``load_from`` is checked, too.
        device (str): The option ``--device``.
        loaders (tuple[str, ...]): The data loaders that the program uses.
        training (bool): See :func:`check_device`. Defaults to False.
    """
    check_device(cfg, device, training)
    check_work_dir(cfg)
    if start := cfg.get('load_from'):
        check_readable(start)
    check_data(cfg, loaders)


def check_device(cfg: Config, device: str, training: bool = False) -> None:
    """Raise an error if CUDA is needed but not available.

    Args:
        cfg (Config): The config.
        device (str): The option ``--device``.
        training (bool): Whether the config's optimizer is used. Defaults to False.
    """
    if torch.cuda.is_available():
        return
    remedy = 'torch finds no GPU (check the driver, CUDA_VISIBLE_DEVICES and the build of torch)'
    if device == 'cuda':
        raise UserError(f'--device cuda: {remedy}')
    backend = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('backend', 'nccl')
    if cfg.launcher != 'none' and backend == 'nccl':
        raise UserError(
            f'the nccl backend needs CUDA and {remedy}; on CPU use '
            '--cfg-options env_cfg.dist_cfg.backend=gloo'
        )
    if training:
        mixed = type_name(cfg.get('optim_wrapper') or {}) == 'AmpOptimWrapper'
    else:
        mixed = (cfg.get('test_cfg') or {}).get('fp16', False)
    if mixed:
        raise UserError(f'mixed precision (--amp, AmpOptimWrapper, fp16) needs CUDA and {remedy}')


def check_work_dir(cfg: Config) -> None:
    """Raise an error if the work dir is not writable."""
    try:
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cfg.work_dir):
            pass
    except OSError as problem:
        raise UserError(
            f'work dir {cfg.work_dir} cannot be written ({problem.strerror}); '
            'choose another one with --work-dir'
        ) from problem


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Raise an error if the data sets' files do not exist."""
    for loader in loaders:
        for dataset in innermost_datasets(cfg.get(loader)):
            for path in data_paths(dataset):
                if not path.exists():
                    raise UserError(
                        f'{loader}: {path} does not exist; put the data set in '
                        f'{dataset["data_root"]} or set its folder with --data-root DIR'
                    )


def data_paths(dataset: dict) -> list[Path]:
    """The local paths in a data set's config: its root, annotation file and folders."""
    root = dataset.get('data_root')
    remote = dataset.get('backend_args') or '://' in (root or '')
    if not root or remote or type_name(dataset) in DOWNLOADED:
        return []
    prefix = dataset.get('data_prefix') or {}
    parts = [dataset.get('ann_file'), *(prefix.values() if isinstance(prefix, dict) else [prefix])]
    return [Path(root), *(Path(root, part) for part in parts if isinstance(part, str) and part)]


def check_labels(dataset: Dataset, model: nn.Module) -> None:
    """Raise an error if a data set has no images, or a label that the head does not support.

    Args:
        dataset (Dataset): The data set of a loader, maybe in wrappers.
        model (nn.Module): The network that gets its images.
    """
    inner = unwrap_dataset(dataset)
    if len(dataset) == 0:
        raise UserError(f'{describe(inner[0])}: {NO_IMAGES}')
    # An annotation file decides, because a part of ImageNet still has all 1000 class names.
    labels = [listed_labels(part) for part in inner]
    classes = None if any(labels) else count_classes(dataset)
    for path, head in heads(model):
        last = head.num_classes - 1
        if classes is not None and classes > head.num_classes:
            raise UserError(
                f'{describe(inner[0])} has {classes} classes, but model.{path}.num_classes is '
                f'{head.num_classes}; set it to {classes}, or remove classes from the data set'
            )
        for part, listed in zip(inner, labels, strict=True):
            wrong = [label for label in listed if not 0 <= label <= last]
            if wrong:
                raise UserError(
                    f'{describe(part)} has the label {wrong[0]}, but model.{path}.num_classes is '
                    f'{head.num_classes}, for labels from 0 to {last}; correct one of them'
                )


def listed_labels(dataset: Dataset) -> set[int]:
    """The labels in a classifier's annotation file; empty if folders define the classes."""
    if not (hasattr(dataset, 'get_gt_labels') and getattr(dataset, 'ann_file', '')):
        return set()
    try:
        return {int(label) for i in range(len(dataset)) for label in dataset.get_cat_ids(i)}
    except KeyError:  # it has no labels
        return set()


def describe(dataset: Dataset) -> str:
    """A data set's class and path, such as 'the CustomDataset of data/train'."""
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folders = [prefix] if isinstance(prefix, str) else list(prefix.values())
    known = (getattr(dataset, 'ann_file', ''), *folders, getattr(dataset, 'data_root', ''))
    where = next((f' of {each}' for each in known if each), '')
    return f'the {type(dataset).__name__}{where}'


def check_readable(checkpoint: str) -> None:
    """Raise an error if a checkpoint cannot be read; URLs and DeepSpeed's folders are skipped."""
    if '://' not in checkpoint and not Path(checkpoint).is_dir():
        weights_of(read_checkpoint(checkpoint), checkpoint, keys=['state_dict'])


class CheckpointHook(Hook):
    """Raises an error for a checkpoint of another model, for which mmengine would only warn.

    A runner calls it after it has read the file and before it loads anything.

    Args:
        checkpoint (str): Its name in errors.
        complete (bool): See :func:`check_weights`.
        resume (bool): Whether training resumes from it. Defaults to False.
    """

    priority = 'LOWEST'  # after hooks that convert names

    def __init__(self, checkpoint: str, complete: bool, resume: bool = False) -> None:
        self.checkpoint, self.complete, self.resume = checkpoint, complete, resume

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check the weights and, in resuming, the other contents that mmengine uses."""
        check_weights(runner.model, checkpoint, self.checkpoint, self.complete)
        if self.resume:
            check_resumable(checkpoint, self.checkpoint)


def check_weights(model: nn.Module, content: dict, checkpoint: str, complete: bool) -> None:
    """Raise an error if a checkpoint does not belong to a model.

    Args:
        model (nn.Module): The runner's model; it is not changed.
        content (dict): The contents of the checkpoint.
        checkpoint (str): Its name in errors.
        complete (bool): Whether it must contain every tensor of the model. If not, it must be of
            the same network, dense or MoD.

    Raises:
        UserError: With the number of matching tensors and the contents of the file.
    """
    state_dict = weights_of(content, checkpoint, keys=['state_dict'])  # the key that mmengine reads
    # Test-time augmentation on several GPUs has two wrappers.
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    match = match_state_dicts(model.state_dict(), state_dict)
    if match.complete:
        return
    if not complete:
        match = judge(model, state_dict)
    if (not complete and not match.foreign) or loads_completely(model, state_dict):
        return
    raise UserError(
        f'checkpoint {checkpoint} does not fit this model: {match}; it holds '
        f'{describe_contents(state_dict)}; {remedy(model, state_dict, complete)}'
    )


def remedy(model: nn.Module, state_dict: dict, complete: bool) -> str:
    """The last part of the error for a checkpoint that does not fit."""
    if not complete and not any(name.startswith('backbone.') for name in state_dict):
        return 'if it contains only a backbone, use --pretrained'
    config = 'use the config that it was trained with'
    if has_mod_blocks(state_dict) and not has_mod_blocks(model.state_dict()):
        config += ', or --mod with the same values: it has MoD blocks and this model has none'
    return config


def check_resumable(content: dict, checkpoint: str) -> None:
    """Raise an error if a checkpoint has no training state, or resuming it is dangerous."""
    if 'message_hub' not in content:
        raise UserError(
            f'checkpoint {checkpoint} has no training state to resume; to start from its weights, '
            f'use --cfg-options load_from={checkpoint}'
        )
    if is_trusting():
        return
    # mmengine would run it as a Python file. The checkpoints that it writes have "cfg" instead.
    if 'config' in content.get('meta', {}):
        raise UserError(
            f'checkpoint {checkpoint} is refused: resuming would run the code in its meta.config; '
            'if you trust its source, use --trust-checkpoint'
        )
    # mmengine deletes the checkpoints with these numbers.
    info = content['message_hub'].get('runtime_info') or {}
    if not all(isinstance(step, int) for step in info.get('keep_ckpt_ids') or []):
        raise UserError(
            f'checkpoint {checkpoint} is refused: its list of older checkpoints, which training '
            'would delete, contains entries that are not numbers; if you trust it, use '
            '--trust-checkpoint'
        )


def loads_completely(model: nn.Module, state_dict: dict) -> bool:
    """Whether a model finds all its tensors; some models convert older names and shapes."""
    before = deepcopy(model.state_dict())
    try:
        missing = model.load_state_dict(dict(state_dict), strict=False).missing_keys
    except RuntimeError:  # different shapes
        return False
    finally:
        model.load_state_dict(before)
    return all(name.endswith('num_batches_tracked') for name in missing)
