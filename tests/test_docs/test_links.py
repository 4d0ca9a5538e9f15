"""The targets of links exist if they are files or headings; URLs are well-formed."""

import re
from urllib.parse import urlsplit

import pytest

from .pages import PAGES, ROOT, prose

LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
HEADING = re.compile(r'^#+ (.+)$', re.MULTILINE)
CODE = re.compile(r'`[^`]*`')


def anchors(page):
    """The anchors of a page's headings, as hosts of repositories generate them."""
    headings = HEADING.findall(prose(page))
    return [re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings]


@pytest.mark.parametrize('page', PAGES)
def test_links(page):
    targets = LINK.findall(CODE.sub('code', prose(page)))
    broken = [target for target in targets if not is_valid(page, target)]
    assert not broken


def is_valid(page, target):
    address = urlsplit(target)
    if address.scheme:
        return address.scheme == 'https' and '.' in address.netloc
    path = ROOT / page
    if address.path:
        path = path.parent / address.path
    if not path.exists() or ROOT not in path.resolve().parents:
        return False
    return not address.fragment or address.fragment in anchors(path.resolve().relative_to(ROOT))


def test_index_links_every_page():
    index = {
        (ROOT / 'docs' / target).resolve()
        for target in LINK.findall(prose('docs/README.md'))
        if '://' not in target
    }
    pages = {path.resolve() for path in (ROOT / 'docs').glob('*.md')}
    assert pages - index == {ROOT / 'docs/README.md'}


def test_layout_page_describes_every_package():
    packages = {path.parent.name for path in ROOT.glob('mmcnnmod/*/__init__.py')}
    named = set(re.findall(r'^\*\*(\w+)\*\*', prose('docs/layout.md'), re.MULTILINE))
    assert named == packages
