"""Which classes an analysis shows: by number, by name, or a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from ..errors import UserError

DEFAULT_CLASSES = 5


def choose_classes(
    wanted: Sequence[str] | None, names: Sequence[str], occurring: Sequence[int]
) -> list[int]:
    """The classes to show.

    Args:
        wanted (Sequence[str], optional): Numbers, names, or one of the words between the commas of
            a name ('pug' for ImageNet's 'pug, pug-dog'). None takes five, spread over the list.
        names (Sequence[str]): The names of all classes.
        occurring (Sequence[int]): The classes that there are images of.

    Returns:
        list[int]: Their numbers, each once.

    Raises:
        UserError: If a class is unknown or not unique, or there is no image of it.
    """
    if not occurring:
        raise UserError('no class occurs in these images; choose another --split')
    if wanted is None:
        shown = min(DEFAULT_CLASSES, len(occurring))
        step = (len(occurring) - 1) / max(shown - 1, 1)
        return [occurring[round(i * step)] for i in range(shown)]
    classes = list(dict.fromkeys(find_class(name, names) for name in wanted))
    for i in classes:
        if i not in occurring:
            raise UserError(f'--classes: {names[i]} occurs in none of these images; leave it out')
    return classes


def find_class(wanted: str, names: Sequence[str]) -> int:
    """The number of the class that is given by a number or a name."""
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    words = [{word.strip().lower() for word in (name, *name.split(','))} for name in names]
    found = [i for i, known in enumerate(words) if wanted.lower() in known]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ', '.join(map(str, found))
        raise UserError(f'--classes: several classes are called {wanted}; give a number, {numbers}')
    known = sorted(set().union(*words))
    near = [word for word in known if wanted.lower() in word][:10]
    near = near or get_close_matches(wanted.lower(), known, cutoff=0.5)
    hint = f'did you mean {", ".join(near)}?' if near else f'there are {", ".join(names[:10])} ...'
    raise UserError(f'--classes: {wanted} is no class of this data; {hint}')
