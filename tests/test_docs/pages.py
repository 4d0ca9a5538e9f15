"""Reads the pages of the documentation."""

import re
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *ROOT.glob('*.md'),
        *ROOT.glob('docs/**/*.md'),
        ROOT / 'configs/README.md',
        ROOT / 'docker/README.md',
    )
)
FENCED = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHELL = ('shell', 'sh', 'bash', 'console')
# Text in backticks that is a command with arguments.
INLINE = re.compile(r'`((?:python|make|pip|docker|torchrun|tools/\w+\.sh) [^`]+)`')
BRACES = re.compile(r'\{([^{}]*,[^{}]*)\}')


def text_of(page):
    return (ROOT / page).read_text(encoding='utf-8')


def blocks(page, *languages):
    """The fenced blocks of a page in one of the languages."""
    return [code for language, code in FENCED.findall(text_of(page)) if language in languages]


def prose(page):
    """The text of a page without fenced blocks."""
    return FENCED.sub('', text_of(page))


def commands(page):
    """The shell commands in the blocks and in the text of a page, one line each."""
    lines = '\n'.join(blocks(page, *SHELL)).replace('\\\n', ' ').splitlines()
    lines += [' '.join(inline.split()) for inline in INLINE.findall(prose(page))]
    lines = [line.split(' #')[0].strip() for line in lines]
    return [line for line in lines if line and not line.startswith('#')]


def alternatives(line):
    """The commands for which a line with {a,b} stands."""
    parts = BRACES.split(line)
    choices = [part.split(',') if i % 2 else [part] for i, part in enumerate(parts)]
    return [''.join(choice) for choice in product(*choices)]
