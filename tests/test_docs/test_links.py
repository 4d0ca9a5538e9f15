"""Links lead somewhere: files, headings, and addresses at least of the right form."""

import re
from urllib.parse import urlsplit

import pytest

from .pages import PAGES, ROOT, prose

LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
HEADING = re.compile(r'^#+ (.+)$', re.MULTILINE)
CODE = re.compile(r'`[^`]*`')


def anchors(page):
    """The anchors of a page's headings, as they are made where Markdown is shown."""
    headings = HEADING.findall(prose(page))
    return [re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings]


@pytest.mark.parametrize('page', PAGES)
def test_links(page):
    targets = LINK.findall(CODE.sub('code', prose(page)))
    wrong = [target for target in targets if not leads_somewhere(page, target)]
    assert not wrong


def leads_somewhere(page, target):
    address = urlsplit(target)
    if address.scheme:
        return address.scheme == 'https' and '.' in address.netloc
    path = ROOT / page
    if address.path:
        path = path.parent / address.path
    if not path.exists() or ROOT not in path.resolve().parents:
        return False
    return not address.fragment or address.fragment in anchors(path.resolve().relative_to(ROOT))


def test_the_index_has_every_page():
    index = {
        (ROOT / 'docs' / target).resolve()
        for target in LINK.findall(prose('docs/README.md'))
        if '://' not in target
    }
    pages = {path.resolve() for path in (ROOT / 'docs').glob('*.md')}
    assert pages - index == {ROOT / 'docs/README.md'}


def test_the_layout_names_every_package():
    packages = {path.parent.name for path in ROOT.glob('mmcnnmod/*/__init__.py')}
    named = set(re.findall(r'^\*\*(\w+)\*\*', prose('docs/layout.md'), re.MULTILINE))
    assert named == packages
