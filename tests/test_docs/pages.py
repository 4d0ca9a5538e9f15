"""The pages for people, taken apart."""

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
# Words in backticks that are a command and not only the name of a thing.
INLINE = re.compile(r'`((?:python|make|pip|docker|torchrun|tools/\w+\.sh) [^`]+)`')
BRACES = re.compile(r'\{([^{}]*,[^{}]*)\}')


def text_of(page):
    return (ROOT / page).read_text(encoding='utf-8')


def blocks(page, *languages):
    """The fenced blocks in one of the languages, in order."""
    return [code for language, code in FENCED.findall(text_of(page)) if language in languages]


def prose(page):
    """The page without its fenced blocks."""
    return FENCED.sub('', text_of(page))


def commands(page):
    """Every shell command, one line each: of the blocks, and those in the text."""
    lines = '\n'.join(blocks(page, *SHELL)).replace('\\\n', ' ').splitlines()
    lines += [' '.join(inline.split()) for inline in INLINE.findall(prose(page))]
    lines = [line.split(' #')[0].strip() for line in lines]
    return [line for line in lines if line and not line.startswith('#')]


def alternatives(line):
    """A line with {a,b} stands for several."""
    parts = BRACES.split(line)
    choices = [part.split(',') if i % 2 else [part] for i, part in enumerate(parts)]
    return [''.join(choice) for choice in product(*choices)]
