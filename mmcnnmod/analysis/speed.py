"""Turn measured times into results, and results into Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from .candidates import Candidate, baseline_of
from .markdown import NOT_THERE, grid
from .measurements import Setting, setting_of
from .paper import PAPER_DEVICES, find_row
from .timing import median_and_spread, ratio

BOUND = ' skip bound'
MIN_ROUNDS = 5  # rounds from which the spread of the times can be estimated
Times = Mapping[Candidate, Sequence[float]]
DOUBT = '?'


def results_of(
    setting: Setting, times: Times, peaks: Mapping[Candidate, float | None]
) -> list[dict]:
    """The results of one setting, in the format of :mod:`mmcnnmod.analysis.measurements`.

    Args:
        setting (Setting): How they were measured.
        times (Times): Milliseconds by network, in the same rounds for all.
        peaks (Mapping[Candidate, float | None]): Megabytes by network, None where unknown.

    Returns:
        list[dict]: One for each network. ``speedup`` is over the dense baseline. ``overhead`` is
        the additional time over the network's own skip bound, as a share. Both are medians of the
        ratios per round, with their interquartile ranges. ``noisy`` names those of the two whose
        difference is smaller than the spread. A field without anything to compare with is left out.
    """
    found = []
    for candidate, own in times.items():
        middle, iqr = median_and_spread(own)
        result = {
            'config': candidate.config,
            **setting._asdict(),
            'what': setting.what + (BOUND if candidate.bound else ''),
            'rounds': len(own),
            'median_ms': round(middle, 4),
            'iqr_ms': round(iqr, 4),
            'peak_mb': peaks[candidate],
            **compare(candidate, times),
        }
        row = find_row(candidate.config)
        printed = row and row.printed.get(f'{PAPER_DEVICES[setting.device]}_speedup')
        if printed and not setting.training and not candidate.bound:
            result['paper_speedup'] = float(printed)
        found.append(result)
    return found


def compare(candidate: Candidate, times: Times) -> dict:
    """Speed-up over the baseline and overhead over the bound, and which of them are noisy."""
    own, found, noisy = times[candidate], {}, []
    baseline = Candidate(baseline_of(candidate.config) or '')
    if baseline in times:
        found['baseline'] = baseline.config
        value, iqr = ratio(times[baseline], own)
        found['speedup'], found['speedup_iqr'] = round(value, 4), round(iqr, 4)
        noisy += ['speedup'] if iqr >= abs(value - 1) or len(own) < MIN_ROUNDS else []
    bound = Candidate(candidate.config, bound=True)
    if bound in times and not candidate.bound:
        value, iqr = ratio(own, times[bound])
        found['overhead'], found['overhead_iqr'] = round(value - 1, 4), round(iqr, 4)
        # No abs(): a network that is faster than its bound was disturbed.
        noisy += ['overhead'] if iqr >= value - 1 or len(own) < MIN_ROUNDS else []
    return {**found, 'noisy': noisy} if found else {}


def speed_report(content: Mapping) -> list[str]:
    """The lines of a benchmark's JSON as Markdown: an overview, then a table for each setting."""
    versions = ', '.join(f'{name} {version}' for name, version in content['versions'].items())
    given = content.get('switches', {}).items()
    switches = ', '.join(f'{name}={value}' for name, value in given if value is not None)
    parts = [content['machine'], content['date'], versions, switches]
    lines, overview, networks = [], {}, {}
    for title, group in groupby(content['results'], title_of):
        pairs = with_bounds(list(group))
        if not pairs:  # only skip bounds
            continue
        rows = [cells_of(result, bound) for result, bound in pairs]
        lines += ['', f'{title}:', '', *grid(rows[0], [row.values() for row in rows])]
        if any(each.get('noisy') for pair in pairs for each in pair):
            lines += ['', f'{DOUBT}: too noisy to tell, the difference varies by more than it is.']
        for result, bound in pairs:
            if 'overhead' in result:
                speed = ' of '.join(number(each, 'speedup', '.2f') for each in (result, bound))
                cell = f'{speed}, {number(result, "overhead", "+.1%")}'
                overview.setdefault(title, {})[result['config']] = cell
                networks[result['config']] = NOT_THERE
    for left_out in content.get('left_out', []):
        lines += ['', f'Left out: {left_out}']
    if overview:
        rows = [[title, *{**networks, **cells}.values()] for title, cells in overview.items()]
        head = 'Speed-up, of that of the bound, time over the bound:'
        lines = [head, '', *grid(['', *networks], rows), *lines]
    return [f'{"; ".join(filter(None, parts))}.', '', *lines]


def title_of(result: Mapping) -> str:
    """What was measured, and its setting."""
    what = result['what'].removesuffix(BOUND)
    return f'{what.capitalize()}, {setting_of(result)}, {result["threads"]} threads'


def with_bounds(results: Sequence[Mapping]) -> list[tuple[Mapping, Mapping]]:
    """Each network's result in a setting, with its skip bound's, which is empty if it has none."""
    bounds = {result['config']: result for result in results if result['what'].endswith(BOUND)}
    return [
        (result, bounds.get(result['config'], {}))
        for result in results
        if not result['what'].endswith(BOUND)
    ]


def cells_of(result: Mapping, bound: Mapping) -> dict[str, str]:
    """The cells of a network by column."""
    return {
        'network': f'{result["config"]} ({"x".join(map(str, result["size"]))})',
        'ms': number(result, 'median_ms', '.2f'),
        'IQR': number(result, 'iqr_ms', '.2f'),
        'speed-up': number(result, 'speedup', '.3f'),
        'of the bound': number(bound, 'speedup', '.3f'),
        'over the bound': number(result, 'overhead', '+.1%'),
        'peak MB': number(result, 'peak_mb', '.1f'),
        "the bound's": number(bound, 'peak_mb', '.1f'),
        'speed-up, paper': number(result, 'paper_speedup', '.2f'),
    }


def number(result: Mapping, name: str, form: str) -> str:
    """A number of a result, with a mark if it is noisy; '-' if the result does not have it."""
    if result.get(name) is None:
        return NOT_THERE
    return f'{result[name]:{form}}' + (f' {DOUBT}' if name in result.get('noisy', ()) else '')
