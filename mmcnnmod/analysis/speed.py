"""From the times of several networks to results, and from results to Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from .candidates import Candidate, baseline_of
from .markdown import NOT_THERE, grid
from .measurements import Setting, setting_of
from .paper import PAPER_DEVICES, find_row
from .timing import median_and_spread, ratio

BOUND = ' skip bound'
# Rounds that tell how much the times vary.
FEWEST = 5
Times = Mapping[Candidate, Sequence[float]]
DOUBT = '?'


def results_of(
    setting: Setting, times: Times, peaks: Mapping[Candidate, float | None]
) -> list[dict]:
    """What was measured in one setting, as :mod:`mmcnnmod.analysis.measurements` reads it.

    Args:
        setting (Setting): How it was measured.
        times (Times): Milliseconds by network, in the same rounds for all.
        peaks (Mapping[Candidate, float | None]): Megabytes by network, None where not known.

    Returns:
        list[dict]: One for each network. ``speedup`` is over the dense baseline, ``overhead`` over
        the network's own skip bound, as a share, both medians of the rounds' ratios with their
        interquartile ranges; ``noisy`` names those of the two that differ from 1 by less. Each is
        left out where there is nothing to compare with.
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


def speed_report(content: Mapping) -> list[str]:
    """The lines of a benchmark's JSON as Markdown: an overview, then a table for each setting."""
    versions = ', '.join(f'{name} {version}' for name, version in content['versions'].items())
    given = content.get('switches', {}).items()
    switches = ', '.join(f'{name}={value}' for name, value in given if value is not None)
    parts = [content['machine'], content['date'], versions, switches]
    lines, overview, networks = [], {}, {}
    for title, group in groupby(content['results'], title_of):
        pairs = list(with_bounds(list(group)))
        rows = [cells_of(result, bound) for result, bound in pairs]
        if not rows:  # of a skip bound alone
            continue
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
    """What was measured and how."""
    what = result['what'].removesuffix(BOUND)
    return f'{what.capitalize()}, {setting_of(result)}, {result["threads"]} threads'


def with_bounds(results: Sequence[Mapping]) -> Iterator[tuple[Mapping, Mapping]]:
    """The results of one setting's networks, each with its skip bound's, empty if there is none."""
    bounds = {result['config']: result for result in results if result['what'].endswith(BOUND)}
    for result in results:
        if not result['what'].endswith(BOUND):
            yield result, bounds.get(result['config'], {})


def cells_of(result: Mapping, bound: Mapping) -> dict[str, str]:
    """The cells of a network by their column."""
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
    """A number of a result with a mark if there is doubt, or the mark for none."""
    if result.get(name) is None:
        return NOT_THERE
    return f'{result[name]:{form}}' + (f' {DOUBT}' if name in result.get('noisy', ()) else '')
