"""Prepare and time the networks of one setting of the benchmark."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmcnnmod.analysis.candidates import Candidate, skip_bound, training_step
from mmcnnmod.analysis.channel_usage import mod_blocks
from mmcnnmod.analysis.counting import build_model, input_size, with_samples
from mmcnnmod.analysis.measurements import Setting
from mmcnnmod.analysis.runtimes import CUDA_GRAPHS, EXPORTED, RUNTIMES, compile_forward
from mmcnnmod.analysis.speed import results_of
from mmcnnmod.analysis.timing import Call, CallFailed, interleaved, peak_memory
from mmcnnmod.cli.config import config_folder, read_config
from mmcnnmod.cli.errors import building_from, message_of

LAYOUTS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}
MAX_REASON = 200  # characters


class Source(NamedTuple):
    """A config, its network on the CPU, which is copied for each setting, and the image size."""

    cfg: Config
    model: nn.Module
    size: tuple[int, int]


def load_networks(configs: Sequence[str], size: Sequence[int] | None) -> dict[str, Source]:
    """Build the untrained networks of configs.

    Args:
        configs (Sequence[str]): Names of the project's configs, or files.
        size (Sequence[int], optional): Height and width of the images; None for each config's own.

    Returns:
        dict[str, Source]: By the config's name.
    """
    found = {}
    for config in configs:
        path = Path(config) if config.endswith('.py') else config_folder() / f'{config}.py'
        cfg = read_config(str(path))
        with (
            building_from(f'config {path}'),
            contextlib.redirect_stdout(sys.stderr),
            DefaultScope.overwrite_default_scope(cfg.default_scope),
        ):
            found[path.stem] = Source(cfg, build_model(cfg), tuple(size or input_size(cfg)))
    return found


class Benchmark:
    """Times networks and their skip bounds.

    Args:
        networks (dict[str, Source]): By the config's name.
        bounds (bool): Whether to time the skip bounds as well.
        rounds (int): Number of measurements of each network.
        block (float): Minimum seconds of a measurement.
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
        self.steps = len(self.candidates) * (rounds + 1)  # calls of ``advance`` in a run

    def run(self, setting: Setting, advance: Callable[[], None]) -> tuple[list[dict], list[str]]:
        """Measure one setting.

        Args:
            setting (Setting): The setting.
            advance (Callable[[], None]): Called after each step, for a progress bar.

        Returns:
            tuple[list[dict], list[str]]: The results, and a line for each network that failed.
        """
        calls, peaks, times, failed = {}, {}, {}, {}
        torch._dynamo.reset()  # frees what was compiled for the last setting
        with torch.set_grad_enabled(setting.training), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the exporter's, about constants
            for candidate in self.candidates:
                try:
                    calls[candidate], peaks[candidate] = self.prepare(candidate, setting)
                except Exception as problem:  # compilers and exporters have their own exceptions
                    failed[candidate] = problem
                advance()
            while calls and not times:
                try:
                    times = interleaved(calls, self.rounds, self.block, advance)
                except CallFailed as problem:  # time the others again without it
                    (candidate,) = problem.args
                    failed[candidate] = problem.__cause__
                    del calls[candidate]
        results = results_of(setting, times, peaks)
        for result in results:
            result['size'] = list(self.networks[result['config']].size)
            result['threads'] = torch.get_num_threads()
        left_out = []
        for candidate, problem in failed.items():
            reason = shorten(message_of(problem), MAX_REASON, placeholder=' ...')
            left_out.append(f'{candidate} ({setting.what}, {setting}): {reason}')
        return results, left_out

    def prepare(self, candidate: Candidate, setting: Setting) -> tuple[Call, float | None]:
        """Make the call to time, run it once, and measure its memory if possible."""
        source = self.networks[candidate.config]
        with DefaultScope.overwrite_default_scope(source.cfg.default_scope):
            call = self.call(source, candidate.bound, setting)
            call()
            unknown = setting.runtime in (*EXPORTED, *CUDA_GRAPHS)
            peak = None if unknown else round(peak_memory(call, setting.device), 3)
        return call, peak

    def call(self, source: Source, bound: bool, setting: Setting) -> Call:
        """Make the call to time."""
        layout = dict(memory_format=LAYOUTS[setting.memory_format])
        model = skip_bound(source.model) if bound else deepcopy(source.model)
        model.to(setting.device, **layout)
        images = torch.rand(setting.batch_size, 3, *source.size).to(setting.device, **layout)
        dtype = getattr(torch, setting.dtype)
        if setting.training:
            model.train()
            if setting.runtime == 'compile':  # losses take lists of samples, which is no graph
                compile_forward(model.backbone)
            return training_step(model, source.cfg, images, dtype)
        network = with_samples(model.to(dtype), images)
        return RUNTIMES[setting.runtime](network, images.to(dtype))
