"""What a command raises to stop with one line instead of a traceback."""


class CommandFailed(Exception):
    """The user can act on it: the text says what was seen, what is wanted and what to do next."""
