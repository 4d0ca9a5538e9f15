"""The results of a sweep, kept in a file after each config."""

from __future__ import annotations

import json
import platform
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path

from mmcnnmod.checkpoints import atomic_write
from mmcnnmod.errors import UserError
from mmcnnmod.toolboxes import MINIMUM_VERSIONS, is_absent

from .survey import WORKS, Entry

PACKAGES = ('torch', 'mmcv', 'mmengine', 'mmcnnmod')


class Results:
    """What is known of which config.

    Args:
        entries (list[Entry]): The configs.
        path (Path, optional): The file; what it knows counts if it is of the same versions.
            Defaults to None, no file.
        retry (bool): Forget what did not work. Defaults to False.

    Attributes:
        versions (dict[str, str]): Of the packages.
        known (dict[str, dict]): Results by digest, see :func:`sweep.survey.examine`.
        configs (dict[str, str]): The digest of each config, or why it cannot be read.
    """

    def __init__(self, entries: list[Entry], path: Path | None = None, retry: bool = False) -> None:
        self.entries = entries
        self.path = path
        self.versions = versions()
        self.known: dict[str, dict] = {}
        self.configs: dict[str, str] = {}
        if path and path.exists():
            before = read_results(path)
            if before['versions'] == self.versions:
                self.known = {
                    digest: result
                    for digest, result in before['results'].items()
                    if result['outcome'] == WORKS or not retry
                }
                self.configs = before['configs']
        self.configs |= {
            f'{entry.toolbox}/{entry.name}': entry.digest or entry.error
            for entry in entries
            if entry.digest or entry.error
        }

    def todo(self) -> list[Entry]:
        """One config for each digest of which nothing is known, in their order."""
        first = {entry.digest: entry for entry in reversed(self.entries) if entry.backbone}
        return [entry for entry in reversed(first.values()) if entry.digest not in self.known]

    def add(self, entry: Entry, result: dict) -> None:
        """Add a result and save."""
        tried = f'{entry.toolbox}/{entry.name}'
        self.known[entry.digest] = {'tried': tried, **result}
        if self.path:
            self.save()

    def save(self) -> None:
        """Write the file."""
        content = {
            'date': datetime.now(timezone.utc).date().isoformat(),
            'versions': self.versions,
            'results': self.known,
            'configs': self.configs,
        }
        with atomic_write(self.path) as partial:
            partial.write_text(dump(content))


def read_results(path: Path) -> dict:
    """Read a results file.

    Raises:
        UserError: If it is none.
    """
    try:
        content = json.loads(path.read_text())
        return {key: content[key] for key in ('versions', 'results', 'configs')}
    except (ValueError, KeyError, TypeError) as problem:
        raise UserError(f'{path} holds no results of a sweep; give another file') from problem


def versions() -> dict[str, str]:
    """The versions for which results hold."""
    toolboxes = [toolbox for toolbox in MINIMUM_VERSIONS if not is_absent(toolbox)]
    found = {name: import_module(name).__version__ for name in (*PACKAGES, *toolboxes)}
    return {'python': platform.python_version(), **found}


def dump(content: dict) -> str:
    """JSON with one line for each config and each result."""
    parts = []
    for name, value in content.items():
        text = json.dumps(value)
        if isinstance(value, dict):
            lines = (f'  {json.dumps(key)}: {json.dumps(item)}' for key, item in value.items())
            text = '{\n' + ',\n'.join(lines) + '\n}'
        parts.append(f'{json.dumps(name)}: {text}')
    return '{\n' + ',\n'.join(parts) + '\n}\n'
