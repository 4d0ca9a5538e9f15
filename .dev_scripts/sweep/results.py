"""The results of a sweep: a file that is written after each config, and tables in Markdown."""

from __future__ import annotations

import json
import platform
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

from mmcnnmod.cli import machine
from mmcnnmod.errors import UserError
from mmcnnmod.files import atomic_write

from .schedule import OURS, UPSTREAM, WORKS, Entry

OUTCOMES = (WORKS, UPSTREAM, OURS)


class Results:
    """What is known of which config.

    Args:
        entries (list[Entry]): The configs.
        path (Path, optional): The file. What it holds counts if it is of the same versions.
        retry (bool): Forget what did not work. Defaults to False.

    Attributes:
        versions (dict[str, str]): Of the packages.
        known (dict[str, dict]): Results by digest, see :func:`sweep.schedule.examine`.
        configs (dict[str, str]): The digest of each config, or why it cannot be read.
    """

    def __init__(self, entries: list[Entry], path: Path | None = None, retry: bool = False) -> None:
        self.entries = entries
        self.path = path
        self.versions = versions()
        self.known: dict[str, dict] = {}
        self.configs: dict[str, str] = {}
        if path and path.exists():
            self.load(retry)
        self.configs |= {e.title: e.digest or e.error for e in entries if e.digest or e.error}

    def load(self, retry: bool) -> None:
        """Take over the results in the file, if they are of the same versions."""
        try:
            content = json.loads(self.path.read_text())
            versions, known, configs = (content[key] for key in ('versions', 'results', 'configs'))
        except (ValueError, KeyError, TypeError) as problem:
            message = f'{self.path} holds no results of a sweep; give another file'
            raise UserError(message) from problem
        if versions == self.versions:
            self.configs = configs
            self.known = {k: v for k, v in known.items() if v['outcome'] == WORKS or not retry}

    def todo(self) -> list[Entry]:
        """One config for each digest of which nothing is known, in their order."""
        first = {entry.digest: entry for entry in reversed(self.entries) if entry.backbone}
        return [entry for entry in reversed(first.values()) if entry.digest not in self.known]

    def add(self, entry: Entry, result: dict) -> None:
        """Add a result, and write the file."""
        self.known[entry.digest] = {'tried': entry.title, **result}
        if self.path:
            content = {
                'date': datetime.now(timezone.utc).date().isoformat(),
                'versions': self.versions,
                'results': self.known,
                'configs': self.configs,
            }
            with atomic_write(self.path) as partial:
                partial.write_text(json.dumps(content, indent=1))


def versions() -> dict[str, str]:
    """The versions for which results hold."""
    return {'python': platform.python_version(), **machine.versions()}


def table(results: Results) -> list[str]:
    """How many configs of each toolbox turned out how, as lines of Markdown."""
    lines = [
        f'| toolbox | backbone | configs | different models | {" | ".join(OUTCOMES)} | not tried |',
        '|---|---|---|---|---|---|---|---|',
    ]
    entries = [entry for entry in results.entries if entry.backbone]
    for toolbox in sorted({entry.toolbox for entry in entries}):
        own = [entry for entry in entries if entry.toolbox == toolbox]
        for backbone, _ in Counter(entry.backbone for entry in own).most_common():
            of_kind = [entry for entry in own if entry.backbone == backbone]
            lines.append(row(toolbox, backbone, of_kind, results))
        lines.append(row(toolbox, 'all', own, results))
    return lines


def row(toolbox: str, backbone: str, entries: list[Entry], results: Results) -> str:
    """The counts of some configs."""
    digests = [entry.digest for entry in entries]
    outcomes = Counter(results.known.get(digest, {}).get('outcome') for digest in digests)
    counts = [outcomes[outcome] for outcome in (*OUTCOMES, None)]
    cells = (toolbox, backbone, len(digests), len(set(digests)), *counts)
    return f'| {" | ".join(map(str, cells))} |'


def failures(results: Results) -> list[str]:
    """What did not work: each error with the configs that it stopped, ours before upstream's."""
    lines = []
    for outcome in (OURS, UPSTREAM):
        found: dict[tuple, list[str]] = {}
        for entry in results.entries:
            result = results.known.get(entry.digest)
            if result and result['outcome'] == outcome:
                found.setdefault(errors_of(result), []).append(entry.title)
        if found:
            lines += ['', f'{outcome.capitalize()}:', '']
        for errors, titles in sorted(found.items(), key=lambda item: -len(item[1])):
            lines.append(f'- {len(titles)} configs, such as {titles[0]}')
            lines += [f'  - {error}' for error in errors]
    if broken := [entry for entry in results.entries if entry.error]:
        lines += ['', 'Cannot be read, with any backbone:', '']
        lines += [f'- {entry.title}: {entry.error}' for entry in broken]
    return lines


def errors_of(result: dict) -> tuple[str, str]:
    """What went wrong with MoD backbones, and with the dense ones."""

    def code(text: str) -> str:
        return f'`{text.replace("`", chr(39))}`'

    dense = 'works'
    if 'dense_error' in result:
        dense = f'{result["dense_step"]}: {code(result["dense_error"])}'
    return f'with MoD: {result["step"]}: {code(result["error"])}', f'dense: {dense}'
