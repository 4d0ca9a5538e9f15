"""The one kind of error that is meant for the user's eyes, and the words of others in it."""


class UserError(ValueError):
    """Something that the user can put right: one line that names the thing and the remedy."""


def cause(problem: Exception) -> str:
    """An exception's message in one line, or what kind it is."""
    return ' '.join(str(problem).split()) or type(problem).__name__


def shown(value: object, most: int = 80) -> str:
    """A value as an error shows it: in one line, and cut if it is long."""
    text = ' '.join(repr(value).split())
    return text if len(text) <= most else f'{text[: most - 3]}...'
