"""A benchmark's JSON as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from .markdown import NOT_THERE, grid
from .measurements import setting_of
from .speed import BOUND

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


def speed_report(content: Mapping) -> list[str]:
    """The tables, one for each setting, with what they are and what to doubt in them.

    Args:
        content (Mapping): What the benchmark writes as JSON.

    Returns:
        list[str]: Lines.
    """
    versions = ', '.join(f'{name} {version}' for name, version in content['versions'].items())
    parts = [content['machine'], content['date'], versions]
    given = content.get('switches', {}).items()
    parts += [', '.join(f'{name}={value}' for name, value in given if value is not None)]
    lines = [f'{"; ".join(filter(None, parts))}.', '']
    lines += overview(content['results'])
    for title, group in groupby(content['results'], title_of):
        results = list(group)
        rows = list(rows_of(results))
        lines += ['', f'{title}:', '', *grid(HEAD, rows)]
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
    bounds = {(title_of(r), r['config']): r for r in results if r['what'].endswith(BOUND)}
    rows: dict[str, dict[str, str]] = {}
    for result in results:
        if 'overhead' in result:
            title, config = title_of(result), result['config']
            speed = (compared(r, 'speedup', '.2f') for r in (result, bounds[title, config]))
            cells = rows.setdefault(title, {})
            cells[config] = f'{" of ".join(speed)}, {compared(result, "overhead", "+.1%")}'
    table = [
        [title, *(cells.get(name, NOT_THERE) for name in networks)] for title, cells in rows.items()
    ]
    return [
        'Speed-up, of that of the bound, time over the bound:',
        '',
        *grid(['', *networks], table),
    ]


def title_of(result: Mapping) -> str:
    """What was measured and how."""
    what = result['what'].removesuffix(BOUND)
    return f'{what.capitalize()}, {setting_of(result)}, {result["threads"]} threads'


def rows_of(results: Sequence[Mapping]) -> Iterator[list[str]]:
    """The cells of each network; its skip bound stands in its row."""
    bounds = {result['config']: result for result in results if result['what'].endswith(BOUND)}
    for result in results:
        if result['what'].endswith(BOUND):
            continue
        bound = bounds.get(result['config'], {})
        size = 'x'.join(map(str, result['size']))
        yield [
            f'{result["config"]} ({size})',
            f'{result["median_ms"]:.2f}',
            f'{result["iqr_ms"]:.2f}',
            compared(result, 'speedup', '.3f'),
            compared(bound, 'speedup', '.3f'),
            compared(result, 'overhead', '+.1%'),
            cell(result.get('peak_mb'), '.1f'),
            cell(bound.get('peak_mb'), '.1f'),
            cell(result.get('paper_speedup'), '.2f'),
        ]


def compared(result: Mapping, name: str, form: str) -> str:
    """A comparison, with a mark if there is doubt."""
    doubt = f' {DOUBT}' if name in result.get('noisy', ()) else ''
    return cell(result.get(name), form) + doubt


def cell(value: float | None, form: str) -> str:
    """A number, or the mark for none."""
    return NOT_THERE if value is None else f'{value:{form}}'
