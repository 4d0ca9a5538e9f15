"""The one kind of error that is meant for the user's eyes, and the words of others in it."""


class UserError(ValueError):
    """Something that the user can put right: one line that names the thing and the remedy."""


def one_line(text: object) -> str:
    """A text without line breaks, and without what could steer a terminal."""
    return ' '.join(''.join(c if c.isprintable() else ' ' for c in str(text)).split())


def cause(problem: Exception) -> str:
    """An exception's message in one line, or what kind it is."""
    return one_line(problem) or type(problem).__name__


def shown(value: object, most: int = 80) -> str:
    """A value as an error shows it: in one line, and cut if it is long."""
    text = one_line(repr(value))
    return text if len(text) <= most else f'{text[: most - 3]}...'
