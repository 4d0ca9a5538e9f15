"""The results of a sweep: a file that is written after each config, and tables in Markdown."""

from __future__ import annotations

import json
import platform
from collections import Counter
from datetime import date
from pathlib import Path

from mmcnnmod.cli.machine import versions
from mmcnnmod.errors import UserError
from mmcnnmod.files import atomic_write

from .schedule import OURS, UPSTREAM, WORKS, Entry

OUTCOMES = (WORKS, UPSTREAM, OURS)


class Results:
    """The results of configs.

    Args:
        entries (list[Entry]): The configs.
        path (Path, optional): The file. Its results are used if they are from the same versions.
        retry (bool): Ignore the failures in the file. Defaults to False.

    Attributes:
        known (dict[str, dict]): Results of :func:`sweep.schedule.examine` by digest.
        configs (dict[str, str]): The digest of each config, or why it cannot be read.
    """

    def __init__(self, entries: list[Entry], path: Path | None = None, retry: bool = False) -> None:
        self.entries = entries
        self.path = path
        self.versions = {'python': platform.python_version(), **versions()}
        self.known: dict[str, dict] = {}
        self.configs: dict[str, str] = {}
        if path and path.exists():
            self.load(retry)
        self.configs |= {e.title: e.digest or e.error for e in entries if e.digest or e.error}

    def load(self, retry: bool) -> None:
        """Read the results in the file, if they are from the same versions."""
        try:
            content = json.loads(self.path.read_text())
            found, known, configs = (content[key] for key in ('versions', 'results', 'configs'))
        except (ValueError, KeyError, TypeError) as problem:
            message = f'{self.path} does not contain results of a sweep; give another file'
            raise UserError(message) from problem
        if found == self.versions:
            self.configs = configs
            self.known = {k: v for k, v in known.items() if v['outcome'] == WORKS or not retry}

    def todo(self) -> list[Entry]:
        """The first config of each digest without a result."""
        first = {entry.digest: entry for entry in reversed(self.entries) if entry.backbone}
        return [entry for entry in reversed(first.values()) if entry.digest not in self.known]

    def add(self, entry: Entry, result: dict) -> None:
        """Add a result and write the file."""
        self.known[entry.digest] = {'tried': entry.title, **result}
        if self.path:
            content = {
                'date': date.today().isoformat(),
                'versions': self.versions,
                'results': self.known,
                'configs': self.configs,
            }
            with atomic_write(self.path) as partial:
                partial.write_text(json.dumps(content, indent=1))


def table(results: Results) -> list[str]:
    """The number of configs by toolbox, backbone and outcome, as lines of Markdown."""
    lines = [
        f'| toolbox | backbone | configs | different models | {" | ".join(OUTCOMES)} | not tried |',
        '|---|---|---|---|---|---|---|---|',
    ]
    entries = [entry for entry in results.entries if entry.backbone]
    for toolbox in sorted({entry.toolbox for entry in entries}):
        own = [entry for entry in entries if entry.toolbox == toolbox]
        for backbone, _ in Counter(entry.backbone for entry in own).most_common():
            group = [entry for entry in own if entry.backbone == backbone]
            lines.append(row(toolbox, backbone, group, results))
        lines.append(row(toolbox, 'all', own, results))
    return lines


def row(toolbox: str, backbone: str, entries: list[Entry], results: Results) -> str:
    """A row of the table."""
    digests = [entry.digest for entry in entries]
    outcomes = Counter(results.known.get(digest, {}).get('outcome') for digest in digests)
    counts = [outcomes[outcome] for outcome in (*OUTCOMES, None)]
    cells = (toolbox, backbone, len(digests), len(set(digests)), *counts)
    return f'| {" | ".join(map(str, cells))} |'


def failures(results: Results) -> list[str]:
    """Each error and the number of its configs, as lines of Markdown; our faults come first."""
    lines = []
    for outcome in (OURS, UPSTREAM):
        titles: dict[tuple, list[str]] = {}
        for entry in results.entries:
            result = results.known.get(entry.digest)
            if result and result['outcome'] == outcome:
                titles.setdefault(errors_of(result), []).append(entry.title)
        if titles:
            lines += ['', f'{outcome.capitalize()}:', '']
        for errors, names in sorted(titles.items(), key=lambda item: -len(item[1])):
            lines.append(f'- {len(names)} configs, such as {names[0]}')
            lines += [f'  - {error}' for error in errors]
    if unreadable := [entry for entry in results.entries if entry.error]:
        lines += ['', 'Cannot be read, with any backbone:', '']
        lines += [f'- {entry.title}: {entry.error}' for entry in unreadable]
    return lines


def errors_of(result: dict) -> tuple[str, str]:
    """The errors with MoD backbones and with the dense ones."""

    def shown(prefix: str) -> str:
        error = result[f'{prefix}error'].replace('`', "'")
        return f'{result[f"{prefix}step"]}: `{error}`'

    dense = shown('dense_') if 'dense_error' in result else 'works'
    return f'with MoD: {shown("")}', f'dense: {dense}'
