"""Imports between the packages run one way, as docs/layout.md says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmcnnmod'
TOOLBOXES = {'mmpretrain', 'mmseg', 'mmdet', 'mmpose', 'mmrotate'}
# From the top down; a package may import from every later line, not from its own.
LEVELS = [
    line.split()
    for line in re.search(
        r'^## Import direction\n.*?```text\n(.*?)```',
        (ROOT / 'docs/layout.md').read_text(),
        re.M | re.S,
    )[1].splitlines()
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def modules():
    """The package's modules, without the links in ``.mim``."""
    return [path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts]


def part_of(path):
    """The package or top-level module that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imported_from(path):
    """The absolute dotted names of what a module imports, anywhere in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = [*base, *filter(None, [node.module])]
            yield from ('.'.join([*module, name.name]) for name in node.names)


def test_every_package_has_a_level():
    assert {part_of(path) for path in modules()} - {'__init__'} == set(LEVEL)


@pytest.mark.parametrize('name', sorted(LEVEL))
def test_imports_run_down(name):
    for path in filter(lambda path: part_of(path) == name, modules()):
        for imported in imported_from(path):
            package, _, rest = imported.partition('.')
            other = rest.partition('.')[0]
            if package == 'mmcnnmod' and other in LEVEL and other != name:
                assert LEVEL[other] > LEVEL[name], f'{path.relative_to(ROOT)} imports {imported}'


@pytest.mark.parametrize('name', ['layers', 'ops', 'backbones', 'checkpoints'])
def test_no_toolbox_is_imported_below_toolboxes(name):
    for path in filter(lambda path: part_of(path) == name, modules()):
        found = {imported.partition('.')[0] for imported in imported_from(path)} & TOOLBOXES
        assert not found, f'{path.relative_to(ROOT)} imports {found}'


def test_the_package_needs_neither_tools_nor_tests():
    for path in modules():
        packages = {imported.partition('.')[0] for imported in imported_from(path)}
        assert not packages & {'tools', 'tests', 'configs'}, path
