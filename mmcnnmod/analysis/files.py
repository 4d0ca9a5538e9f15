"""Folders that are there, and JSON files that are what they should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from ..files import atomic_write

NAMES = {
    str: 'a text',
    int: 'an integer',
    float: 'a number',
    bool: 'true or false',
    dict: 'an object',
    list: 'a list',
}


def check_folder(path: Path | None) -> None:
    """Fail in time if the folder of a file that is to be written is not there."""
    if path and not path.parent.is_dir():
        raise UserError(f'{path} cannot be written: there is no folder {path.parent}')


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', 'utf-8')


def read_json(path: Path, fields: Mapping[str, type]) -> dict:
    """Read a JSON file that holds an object.

    Args:
        path (Path): The file.
        fields (Mapping[str, type]): What it must hold, see :func:`check_fields`.

    Returns:
        dict: Its content.

    Raises:
        UserError: If it cannot be read, or lacks something.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as problem:
        raise UserError(f'{path} cannot be read: {problem.strerror or problem}') from problem
    except ValueError as problem:
        raise UserError(f'{path} is no JSON: {problem}') from problem
    check_fields(str(path), content, fields)
    return content


def check_fields(where: str, node: object, fields: Mapping[str, type]) -> None:
    """Make sure that an object of a JSON file holds what it must; it may hold more.

    Args:
        where (str): How errors call it.
        node (object): The object.
        fields (Mapping[str, type]): The type of each field; an integer passes as a float.

    Raises:
        UserError: Names the field that is missing or of another type.
    """
    if not isinstance(node, dict):
        raise UserError(f'{where} must be an object, it is {node!r:.60}')
    for name, kind in fields.items():
        if name not in node:
            raise UserError(f'{where} has no {name!r}, which must be {NAMES[kind]}')
        value = node[name]
        kinds = (int, float) if kind is float else kind
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kinds):
            raise UserError(f'{where}: {name!r} must be {NAMES[kind]}, it is {value!r:.60}')
