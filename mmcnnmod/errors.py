"""The one kind of error that is meant for the user's eyes."""


class UserError(Exception):
    """Something that the user can put right: one line that names the thing and the remedy."""
