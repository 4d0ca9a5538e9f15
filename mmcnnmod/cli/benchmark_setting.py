"""One setting of the benchmark: its networks, made ready and timed in turns."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from ..analysis.candidates import Candidate, network_of, skip_bound, training_step
from ..analysis.channel_usage import mod_blocks
from ..analysis.counting import build_model, input_size
from ..analysis.measurements import Setting
from ..analysis.runtimes import CUDA_GRAPHS, EXPORTED, RUNTIMES, compile_forward, forget_compiled
from ..analysis.speed import results_of
from ..analysis.timing import Call, CallFailed, interleaved, peak_memory
from .config import read_config
from .errors import building_from, message_of

LAYOUTS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}


@dataclass(frozen=True)
class Job:
    """What is measured and how: a setting, for inference or training."""

    device: str
    runtime: str
    batch_size: int
    dtype: str
    memory_format: str
    what: str

    @property
    def training(self) -> bool:
        """Whether it is a step of training."""
        return self.what == 'training'

    @property
    def setting(self) -> Setting:
        """Without what is measured."""
        return Setting(*(getattr(self, name) for name in Setting._fields))

    def __str__(self) -> str:
        return f'{self.what}, {self.setting}'


@dataclass(frozen=True)
class Source:
    """A network on the CPU, from which every setting makes its own copy."""

    cfg: Config
    model: nn.Module
    size: tuple[int, int]


def load_networks(
    folder: Path, configs: Sequence[str], size: Sequence[int] | None
) -> dict[str, Source]:
    """Build the configs' models, with weights as their constructors leave them.

    Args:
        folder (Path): Where the project's configs are.
        configs (Sequence[str]): Names of its configs, or files.
        size (Sequence[int], optional): Height and width of the images. None: each config's own.

    Returns:
        dict[str, Source]: By the config's name.

    Raises:
        UserError: If one is not there, or does not build.
    """
    found = {}
    for config in configs:
        path = Path(config) if config.endswith('.py') else folder / f'{config}.py'
        cfg = read_config(str(path))
        with building_from(f'config {path}'), contextlib.redirect_stdout(sys.stderr):
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                model = build_model(cfg)
            found[path.stem] = Source(cfg, model, tuple(size or input_size(cfg)))
    return found


class Benchmark:
    """Times networks and their skip bounds.

    Args:
        networks (dict[str, Source]): By the config's name.
        bounds (bool): Whether the skip bounds are timed as well.
        rounds (int): How many measurements of each.
        block (float): Seconds that a measurement takes at least.
    """

    def __init__(
        self, networks: dict[str, Source], bounds: bool, rounds: int, block: float
    ) -> None:
        self.networks = networks
        self.rounds = rounds
        self.block = block
        self.candidates = [
            Candidate(config, bound)
            for config, source in networks.items()
            for bound in ((False, True) if bounds and mod_blocks(source.model) else (False,))
        ]

    def steps(self) -> int:
        """How often ``run`` calls ``advance``, if nothing is left out."""
        return len(self.candidates) * (self.rounds + 1)

    def run(self, job: Job, advance: Callable[[], None]) -> tuple[list[dict], list[str]]:
        """Measure one setting.

        Args:
            job (Job): The setting.
            advance (Callable[[], None]): Called at each step, for a progress bar.

        Returns:
            tuple[list[dict], list[str]]: The results, and a line for each network left out.
        """
        calls, peaks, left_out = {}, {}, []
        forget_compiled()
        with torch.set_grad_enabled(job.training), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the exporter's, about constants
            for candidate in self.candidates:
                try:
                    calls[candidate], peaks[candidate] = self.prepare(candidate, job)
                except Exception as problem:  # whatever a compiler or an exporter raises
                    left_out.append(f'{candidate} ({job}): {shorten(message_of(problem))}')
                advance()
            times = self.time(calls, job, advance, left_out)
        results = results_of(job.setting, job.what, times, peaks)
        for result in results:
            result['size'] = list(self.networks[result['config']].size)
            result['threads'] = torch.get_num_threads()
        return results, left_out

    def time(self, calls: dict, job: Job, advance: Callable[[], None], left_out: list[str]) -> dict:
        """The times of the calls; without one that fails the others are timed anew."""
        while calls:
            try:
                return interleaved(calls, self.rounds, self.block, advance)
            except CallFailed as failed:
                del calls[failed.key]
                reason = shorten(message_of(failed.__cause__))
                left_out.append(f'{failed.key} ({job}): {reason}')
        return {}

    def prepare(self, candidate: Candidate, job: Job) -> tuple[Call, float | None]:
        """What to time of a network, run once before, and how much memory it takes."""
        source = self.networks[candidate.config]
        with DefaultScope.overwrite_default_scope(source.cfg.default_scope):
            call = self.call(source, candidate.bound, job)
            call()
            unknown = job.runtime in (*EXPORTED, *CUDA_GRAPHS)
            peak = None if unknown else round(peak_memory(call, job.device), 3)
        return call, peak

    def call(self, source: Source, bound: bool, job: Job) -> Call:
        """The call that is timed."""
        layout = dict(memory_format=LAYOUTS[job.memory_format])
        model = skip_bound(source.model) if bound else deepcopy(source.model)
        model.to(job.device, **layout)
        images = torch.rand(job.batch_size, 3, *source.size).to(job.device, **layout)
        dtype = getattr(torch, job.dtype)
        if job.training:
            model.train()
            if job.runtime == 'compile':  # the losses take lists of samples, which makes no graph
                compile_forward(model.backbone)
            return training_step(model, source.cfg, images, dtype)
        network = network_of(model.to(dtype), images)
        return RUNTIMES[job.runtime](network, images.to(dtype))


def shorten(line: str, most: int = 200) -> str:
    """A line of bearable length."""
    return line if len(line) <= most else f'{line[:most]} ...'
