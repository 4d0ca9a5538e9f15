"""The outcome of a sweep as Markdown."""

from __future__ import annotations

from collections import Counter

from .results import Results
from .survey import OURS, UPSTREAM, WORKS, Entry

OUTCOMES = (WORKS, UPSTREAM, OURS)


def table(results: Results) -> list[str]:
    """How many configs of each toolbox turned out how.

    Args:
        results (Results): What is known so far.

    Returns:
        list[str]: Lines of Markdown.
    """
    lines = [
        f'| toolbox | backbone | configs | different models | {" | ".join(OUTCOMES)} | not tried |',
        '|---|---|---|---|---|---|---|---|',
    ]
    entries = [entry for entry in results.entries if entry.backbone]
    for toolbox in sorted({entry.toolbox for entry in entries}):
        own = [entry for entry in entries if entry.toolbox == toolbox]
        kinds = Counter(entry.backbone for entry in own)
        for backbone, _ in kinds.most_common():
            of_kind = [entry for entry in own if entry.backbone == backbone]
            lines.append(row(toolbox, backbone, of_kind, results))
        lines.append(row(toolbox, 'all', own, results))
    return lines


def row(toolbox: str, backbone: str, entries: list[Entry], results: Results) -> str:
    """The counts of some configs."""
    outcomes = Counter(
        results.known[entry.digest]['outcome'] if entry.digest in results.known else None
        for entry in entries
    )
    models = len({entry.digest for entry in entries})
    counts = [outcomes[outcome] for outcome in (*OUTCOMES, None)]
    return f'| {" | ".join(map(str, (toolbox, backbone, len(entries), models, *counts)))} |'


def failures(results: Results) -> list[str]:
    """What did not work: each error with the configs that it stopped, ours before upstream's."""
    lines = []
    for outcome in (OURS, UPSTREAM):
        found: dict[tuple, list[str]] = {}
        for entry in results.entries:
            result = results.known.get(entry.digest)
            if result and result['outcome'] == outcome:
                found.setdefault(proof(result), []).append(f'{entry.toolbox}/{entry.name}')
        if found:
            lines += ['', f'{outcome.capitalize()}:', '']
        for errors, names in sorted(found.items(), key=lambda item: -len(item[1])):
            lines.append(f'- {len(names)} configs, such as {names[0]}')
            lines += [f'  - {error}' for error in errors]
    broken = [entry for entry in results.entries if entry.error]
    if broken:
        lines += ['', 'Cannot be read, with any backbone:', '']
        lines += [f'- {entry.toolbox}/{entry.name}: {entry.error}' for entry in broken]
    return lines


def proof(result: dict) -> tuple[str, str]:
    """What went wrong with MoD backbones, and with the dense ones."""
    dense = 'works'
    if 'dense_error' in result:
        dense = f'{result["dense_step"]}: {code(result["dense_error"])}'
    return f'with MoD: {result["step"]}: {code(result["error"])}', f'dense: {dense}'


def code(text: str) -> str:
    """A text that Markdown leaves as it is."""
    return f'`{text.replace("`", chr(39))}`'
