"""Packages only import from packages below them in docs/layout.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmcnnmod'
TOOLBOXES = {'mmpretrain', 'mmseg', 'mmdet', 'mmpose', 'mmrotate'}
# From top to bottom; a package may import from every later line, but not from its own line.
LEVELS = [
    line.split()
    for line in re.search(
        r'^## Import direction\n.*?```text\n(.*?)```',
        (ROOT / 'docs/layout.md').read_text(),
        re.M | re.S,
    )[1].splitlines()
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


# Without the links in `.mim`.
MODULES = [path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts]


def part_of(path):
    """The package or top-level module of a file."""
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imports(*parts):
    """Yield the path of each module in some parts, or in all, and the full name of each import."""
    for path in MODULES:
        if parts and part_of(path) not in parts:
            continue
        package = path.relative_to(ROOT).parent.parts
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else ()
                module = [*base, *filter(None, [node.module])]
                yield from ((path, '.'.join([*module, name.name])) for name in node.names)


def test_every_package_has_a_level():
    assert {part_of(path) for path in MODULES} - {'__init__'} == set(LEVEL)


@pytest.mark.parametrize('part', sorted(LEVEL))
def test_imports_are_from_lower_levels(part):
    for path, imported in imports(part):
        package, _, rest = imported.partition('.')
        other = rest.partition('.')[0]
        if package == 'mmcnnmod' and other in LEVEL and other != part:
            assert LEVEL[other] > LEVEL[part], f'{path} imports {imported}'


def test_packages_below_toolboxes_import_no_toolbox():
    for path, imported in imports('layers', 'ops', 'backbones', 'checkpoints'):
        assert imported.partition('.')[0] not in TOOLBOXES, f'{path} imports {imported}'


def test_package_imports_neither_tools_nor_tests():
    for path, imported in imports():
        other = imported.partition('.')[0]
        assert other not in ('tools', 'tests', 'configs'), f'{path} imports {imported}'
