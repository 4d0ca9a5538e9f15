"""The one kind of error that is meant for the user's eyes."""


class UserError(ValueError):
    """Something that the user can put right: one line that names the thing and the remedy."""
