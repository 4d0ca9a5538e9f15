"""What is known of each seed of a config: kept in a JSON file, shown as a table."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from rich.table import Table

from ..checkpoints import atomic_write
from ..errors import UserError

# What a result depends on; the toolboxes are imported where they are installed.
PACKAGES = ('mmcnnmod', 'torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet')


class SeedRecord:
    """The facts of each seed, written to a file whenever one is added.

    A seed has a ``checkpoint`` once it is trained and ``metrics`` once it is tested; beside them
    ``seconds`` (training and test, if it was done in one go), ``versions``, and ``failure``, one
    line, if its last try failed.

    Args:
        path (Path): The JSON file; read if it is there.
        config (str): The config's path, for the file and the table.

    Raises:
        UserError: If the file is damaged.
    """

    def __init__(self, path: Path, config: str) -> None:
        self.path = path
        self.config = config
        self.seeds: dict[int, dict] = {}
        if path.exists():
            try:
                seeds = json.loads(path.read_text())['seeds']
                self.seeds = {int(seed): facts for seed, facts in seeds.items()}
            except (ValueError, KeyError, AttributeError) as problem:
                raise UserError(f'{path} is damaged ({problem!r}); remove it') from problem

    def __getitem__(self, seed: int) -> dict:
        """The facts of a seed, empty for a new one."""
        return self.seeds.get(seed, {})

    def is_finished(self, seed: int) -> bool:
        """Whether a seed is trained and tested."""
        return 'metrics' in self[seed]

    def update(self, seed: int, **facts) -> None:
        """Add facts of a seed (None removes one) and write the file; it is never half-written."""
        merged = {**self[seed], 'versions': versions(), **facts}
        self.seeds[seed] = {name: fact for name, fact in merged.items() if fact is not None}
        content = dict(
            config=self.config,
            seeds={str(seed): self.seeds[seed] for seed in sorted(self.seeds)},
            mean=self.mean(),
            sample_standard_deviation=self.deviation(),
        )
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(content, indent=2) + '\n')

    def seconds_per_seed(self) -> float | None:
        """How long a seed took on average; None if none was done in one go."""
        seconds = [facts['seconds'] for facts in self.seeds.values() if 'seconds' in facts]
        return statistics.mean(seconds) if seconds else None

    def mean(self) -> dict[str, float]:
        """The mean of each metric over the finished seeds."""
        return {name: statistics.mean(values) for name, values in self.columns().items()}

    def deviation(self) -> dict[str, float]:
        """The sample standard deviation (divided by n - 1) of each metric; from two seeds on."""
        return {
            name: statistics.stdev(values)
            for name, values in self.columns().items()
            if len(values) > 1
        }

    def columns(self) -> dict[str, list[float]]:
        """The values of each metric, over the finished seeds in order."""
        rows = [self[seed]['metrics'] for seed in sorted(self.seeds) if self.is_finished(seed)]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row[name] for row in rows if name in row] for name in names}

    def table(self) -> Table:
        """A row for each finished seed, then mean and deviation."""
        mean, deviation = self.mean(), self.deviation()
        table = Table('seed', title=self.config, caption='deviation: of the sample (n - 1)')
        table.add_column('checkpoint', overflow='fold')
        for name in mean:
            table.add_column(name, justify='right', no_wrap=True)
        finished = [seed for seed in sorted(self.seeds) if self.is_finished(seed)]
        for seed in finished:
            facts = self[seed]
            cells = [cell(facts['metrics'].get(name)) for name in mean]
            table.add_row(str(seed), facts['checkpoint'], *cells, end_section=seed == finished[-1])
        table.add_row('mean', '', *[cell(mean[name]) for name in mean])
        table.add_row('deviation', '', *[cell(deviation.get(name)) for name in mean])
        return table


def cell(value: float | None) -> str:
    """A metric in the table."""
    return '-' if value is None else f'{value:.4g}'


def versions() -> dict[str, str]:
    """The versions of the packages that are there."""
    return {name: sys.modules[name].__version__ for name in PACKAGES if name in sys.modules}
