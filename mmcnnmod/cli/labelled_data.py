"""The data of a split, and which classes occur in its images."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from rich.progress import track
from torch.utils.data import ConcatDataset, DataLoader, Subset

from ..datasets import class_reader, name_unreadable_files, unwrap_dataset
from ..errors import UserError
from .errors import building_from
from .preflight import innermost_datasets


def choose_split(cfg: Config, split: str) -> None:
    """Make a split the test data; training images go through the pipeline of testing.

    Args:
        cfg (Config): Changed in place.
        split (str): 'train', 'val' or 'test'.
    """
    chosen = cfg.get(f'{split}_dataloader')
    testing = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if chosen is None or testing is None:
        raise UserError(f'--split {split}: the config has no such data; choose another one')
    if split == 'train':
        pipeline = next(innermost_datasets(testing))['pipeline']
        for dataset in innermost_datasets(chosen):
            dataset['pipeline'] = pipeline
        chosen = ConfigDict({**testing, 'dataset': chosen.dataset})
    cfg.test_dataloader = chosen


class LabelledData:
    """The images that ``test_dataloader`` names.

    Args:
        cfg (Config): A config.
        config (str): How errors call it.

    Attributes:
        classes (Sequence[str]): The names of the classes.
    """

    def __init__(self, cfg: Config, config: str) -> None:
        self.options = cfg.test_dataloader
        with building_from(f'config {config}'):
            # Wrappers would repeat images.
            self.datasets = unwrap_dataset(DATASETS.build(self.options.dataset))
        self.classes = self.datasets[0].metainfo.get('classes')
        if not self.classes:
            raise UserError(
                f'config {config}: its data set has no names of classes; give them as '
                'metainfo=dict(classes=...)'
            )

    def occurrences(self) -> list[set[int]]:
        """The classes that occur in each image."""
        labels = [
            (read, position)
            for read, length in [(class_reader(each), len(each)) for each in self.datasets]
            for position in range(length)
        ]
        return [read(position) for read, position in track(labels, 'Reading labels')]

    def loader(self, images: Sequence[int]) -> DataLoader:
        """A loader of some of the images, in the order given."""
        for dataset in self.datasets:
            name_unreadable_files(dataset)
        return DataLoader(
            Subset(ConcatDataset(self.datasets), images),
            batch_size=self.options.get('batch_size', 1),
            num_workers=self.options.get('num_workers', 0),
            collate_fn=pseudo_collate,
        )
