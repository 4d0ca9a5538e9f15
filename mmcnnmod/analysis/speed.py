"""From the times of several networks to results: how fast, against the baseline and the bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from .candidates import Candidate, baseline_of, paper_speed_up
from .measurements import INFERENCE, Setting
from .timing import ratio, spread

BOUND = ' skip bound'
# Rounds that tell how much the times vary.
FEWEST = 5
Times = Mapping[Candidate, Sequence[float]]


def results_of(
    setting: Setting, what: str, times: Times, peaks: Mapping[Candidate, float | None]
) -> list[dict]:
    """What was measured in one setting, as :mod:`mmcnnmod.analysis.measurements` reads it.

    Args:
        setting (Setting): How it was measured.
        what (str): 'inference' or 'training'.
        times (Times): Milliseconds by network, in the same rounds for all.
        peaks (Mapping[Candidate, float | None]): Megabytes by network, None where not known.

    Returns:
        list[dict]: One for each network. ``speedup`` is over the dense baseline, ``overhead`` over
        the network's own skip bound, as a share, both medians of the rounds' ratios with their
        interquartile ranges; ``noisy`` names those of the two that differ from 1 by less. Each is
        left out where there is nothing to compare with.
    """
    return [
        {
            'config': candidate.config,
            **setting._asdict(),
            'what': what + BOUND if candidate.bound else what,
            'rounds': len(own),
            'median_ms': round(median(own), 4),
            'iqr_ms': round(spread(own), 4),
            'peak_mb': peaks[candidate],
            **compare(candidate, times),
            **printed(candidate, setting, what),
        }
        for candidate, own in times.items()
    ]


def compare(candidate: Candidate, times: Times) -> dict:
    """Speed-up over the baseline and overhead over the bound, with what is too noisy to tell."""
    own, found, noisy = times[candidate], {}, []
    baseline = Candidate(baseline_of(candidate.config) or '')
    if baseline in times:
        found['baseline'] = baseline.config
        value, iqr = ratio(times[baseline], own)
        found['speedup'], found['speedup_iqr'] = round(value, 4), round(iqr, 4)
        noisy += ['speedup'] if iqr >= abs(value - 1) or len(own) < FEWEST else []
    bound = Candidate(candidate.config, bound=True)
    if bound in times and not candidate.bound:
        value, iqr = ratio(own, times[bound])
        found['overhead'], found['overhead_iqr'] = round(value - 1, 4), round(iqr, 4)
        # Nothing beats the bound: what seems to was disturbed.
        noisy += ['overhead'] if iqr >= value - 1 or len(own) < FEWEST else []
    return {**found, 'noisy': noisy} if found else {}


def printed(candidate: Candidate, setting: Setting, what: str) -> dict:
    """The paper's speed-up, which is one of inference."""
    value = paper_speed_up(candidate.config, setting.device)
    comparable = what == INFERENCE and not candidate.bound and value is not None
    return {'paper_speedup': value} if comparable else {}
