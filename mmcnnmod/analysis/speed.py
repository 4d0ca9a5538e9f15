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
HEAD = (
    'network',
    'ms',
    'IQR',
    'speed-up',
    'of the bound',
    'over the bound',
    'peak MB',
    "the bound's",
    'speed-up, paper',
)
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
    """The tables, one for each setting, with what they are and what to doubt in them.

    Args:
        content (Mapping): What the benchmark writes as JSON.

    Returns:
        list[str]: Lines.
    """
    versions = ', '.join(f'{name} {version}' for name, version in content['versions'].items())
    given = content.get('switches', {}).items()
    switches = ', '.join(f'{name}={value}' for name, value in given if value is not None)
    parts = [content['machine'], content['date'], versions, switches]
    lines = [f'{"; ".join(filter(None, parts))}.', '', *overview(content['results'])]
    for title, group in groupby(content['results'], title_of):
        results = list(group)
        lines += ['', f'{title}:', '', *grid(HEAD, list(rows_of(results)))]
        if any(result.get('noisy') for result in results):
            lines += ['', f'{DOUBT}: too noisy to tell, the difference varies by more than it is.']
    for left_out in content.get('left_out', []):
        lines += ['', f'Left out: {left_out}']
    return lines


def overview(results: Sequence[Mapping]) -> list[str]:
    """A table of the settings: for each network speed-up, that of the bound, and overhead."""
    networks = list(dict.fromkeys(r['config'] for r in results if 'overhead' in r))
    if not networks:
        return []
    rows: dict[str, dict[str, str]] = {}
    for title, group in groupby(results, title_of):
        for result, bound in with_bounds(list(group)):
            if 'overhead' in result:
                speed = ' of '.join(compared(each, 'speedup', '.2f') for each in (result, bound))
                cells = rows.setdefault(title, {})
                cells[result['config']] = f'{speed}, {compared(result, "overhead", "+.1%")}'
    cells = [
        [title, *(row.get(name, NOT_THERE) for name in networks)] for title, row in rows.items()
    ]
    head = 'Speed-up, of that of the bound, time over the bound:'
    return [head, '', *grid(['', *networks], cells)]


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


def rows_of(results: Sequence[Mapping]) -> Iterator[list[str]]:
    """The cells of each network; its skip bound is in its row."""
    for result, bound in with_bounds(results):
        yield [
            f'{result["config"]} ({"x".join(map(str, result["size"]))})',
            f'{result["median_ms"]:.2f}',
            f'{result["iqr_ms"]:.2f}',
            compared(result, 'speedup', '.3f'),
            compared(bound, 'speedup', '.3f'),
            compared(result, 'overhead', '+.1%'),
            compared(result, 'peak_mb', '.1f'),
            compared(bound, 'peak_mb', '.1f'),
            compared(result, 'paper_speedup', '.2f'),
        ]


def compared(result: Mapping, name: str, form: str) -> str:
    """A number of a result with a mark if there is doubt, or the mark for none."""
    if result.get(name) is None:
        return NOT_THERE
    return f'{result[name]:{form}}' + (f' {DOUBT}' if name in result.get('noisy', ()) else '')
