"""JSON files with checks of their contents."""

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


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, completely or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', 'utf-8')


def read_json(path: Path, fields: Mapping[str, type]) -> dict:
    """Read a JSON file that contains an object.

    Args:
        path (Path): The file.
        fields (Mapping[str, type]): The required fields, see :func:`check_fields`.

    Returns:
        dict: Its content.

    Raises:
        UserError: If it cannot be read, or a field is missing.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as problem:
        raise UserError(f'{path} cannot be read: {problem.strerror or problem}') from problem
    except ValueError as problem:
        raise UserError(f'{path} is not JSON: {problem}') from problem
    check_fields(str(path), content, fields)
    return content


def check_fields(where: str, node: object, fields: Mapping[str, type]) -> None:
    """Check the required fields of an object in a JSON file. Other fields are allowed.

    Args:
        where (str): Its name in errors.
        node (object): The object.
        fields (Mapping[str, type]): The type of each field; an integer passes as a float.

    Raises:
        UserError: If a field is missing or has another type.
    """
    if not isinstance(node, dict):
        raise UserError(f'{where} must be an object, got {node!r:.60}')
    for name, kind in fields.items():
        if name not in node:
            raise UserError(f'{where} has no {name!r}, which must be {NAMES[kind]}')
        value = node[name]
        kinds = (int, float) if kind is float else kind
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kinds):
            raise UserError(f'{where}: {name!r} must be {NAMES[kind]}, got {value!r:.60}')
