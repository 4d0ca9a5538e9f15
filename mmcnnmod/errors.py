"""The error that users see in one line, and helpers for its message."""


class UserError(ValueError):
    """An error that the user can fix. Its message is one line that names cause and remedy."""


def one_line(text: object) -> str:
    """A text without line breaks and terminal control characters."""
    return ' '.join(''.join(c if c.isprintable() else ' ' for c in str(text)).split())


def cause(problem: Exception) -> str:
    """An exception's message in one line, or the name of its class."""
    return one_line(problem) or type(problem).__name__


def shown(value: object, most: int = 80) -> str:
    """A value for an error message: in one line, and shortened if it is long."""
    text = one_line(repr(value))
    return text if len(text) <= most else f'{text[: most - 3]}...'
