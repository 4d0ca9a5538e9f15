"""The images of a split, the classes in them, and the choice of classes to show."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from rich.progress import track
from torch.utils.data import ConcatDataset, DataLoader, Subset

from ..datasets import class_reader, name_unreadable_files, unwrap_dataset
from ..errors import UserError
from .config import innermost_datasets
from .errors import building_from

DEFAULT_CLASSES = 5  # how many are shown


def choose_split(cfg: Config, split: str) -> None:
    """Use the data of a split as the test data; training images get the test pipeline.

    Args:
        cfg (Config): Changed in place.
        split (str): 'train', 'val' or 'test'.
    """
    loader = cfg.get(f'{split}_dataloader')
    test_loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if loader is None or test_loader is None:
        raise UserError(f'--split {split}: the config has no such data; choose another one')
    if split == 'train':
        pipeline = next(innermost_datasets(test_loader))['pipeline']
        for dataset in innermost_datasets(loader):
            dataset['pipeline'] = pipeline
        loader = ConfigDict({**test_loader, 'dataset': loader.dataset})
    cfg.test_dataloader = loader


class LabelledData:
    """The images of ``test_dataloader``.

    Args:
        cfg (Config): A config.
        config (str): Its name in errors.

    Attributes:
        classes (Sequence[str]): The names of the classes.
    """

    def __init__(self, cfg: Config, config: str) -> None:
        self.options = cfg.test_dataloader
        with building_from(f'config {config}'):
            self.datasets = unwrap_dataset(DATASETS.build(self.options.dataset))  # each image once
        self.classes = self.datasets[0].metainfo.get('classes')
        if not self.classes:
            raise UserError(
                f'config {config}: its data set has no class names; add them as '
                'metainfo=dict(classes=...)'
            )

    def occurrences(self) -> list[set[int]]:
        """The classes that occur in each image."""
        images = []
        for dataset in self.datasets:
            read_classes = class_reader(dataset)
            images += [(read_classes, i) for i in range(len(dataset))]
        return [read_classes(i) for read_classes, i in track(images, 'Reading labels')]

    def loader(self, images: Sequence[int]) -> DataLoader:
        """A loader of the images with these indices, in this order."""
        for dataset in self.datasets:
            name_unreadable_files(dataset)
        return DataLoader(
            Subset(ConcatDataset(self.datasets), images),
            batch_size=self.options.get('batch_size', 1),
            num_workers=self.options.get('num_workers', 0),
            collate_fn=pseudo_collate,
        )


def choose_classes(
    wanted: Sequence[str] | None, names: Sequence[str], occurring: Sequence[int]
) -> list[int]:
    """Choose the classes to show.

    Args:
        wanted (Sequence[str], optional): Numbers, names, or parts of names between commas ('pug'
            for ImageNet's 'pug, pug-dog'). None chooses five, spread over the list.
        names (Sequence[str]): The names of all classes.
        occurring (Sequence[int]): The classes with images.

    Returns:
        list[int]: Their numbers, each once.

    Raises:
        UserError: If a class is unknown, ambiguous, or has no images.
    """
    if not occurring:
        raise UserError('these images contain no class; choose another --split')
    if wanted is None:
        shown = min(DEFAULT_CLASSES, len(occurring))
        step = (len(occurring) - 1) / max(shown - 1, 1)
        return [occurring[round(i * step)] for i in range(shown)]
    classes = list(dict.fromkeys(find_class(name, names) for name in wanted))
    if missing := [names[i] for i in classes if i not in occurring]:
        raise UserError(f'--classes: no image contains {missing[0]}; remove it')
    return classes


def find_class(wanted: str, names: Sequence[str]) -> int:
    """The number of a class that is given by its number or name."""
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    parts = [{part.strip().lower() for part in (name, *name.split(','))} for name in names]
    found = [i for i, parts_of_name in enumerate(parts) if wanted.lower() in parts_of_name]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ', '.join(map(str, found))
        raise UserError(f'--classes: several classes are called {wanted}; use a number: {numbers}')
    known = sorted(set().union(*parts))
    similar = [part for part in known if wanted.lower() in part][:10]
    similar = similar or get_close_matches(wanted.lower(), known, cutoff=0.5)
    hint = f'did you mean {", ".join(similar)}?'
    if not similar:
        hint = f'there are {", ".join(names[:10])} ...'
    raise UserError(f'--classes: this data set has no class {wanted}; {hint}')
