"""Error that ends a command with one line instead of a traceback."""


class CommandFailed(Exception):
    """An error that the user can resolve: the text gives what was found, what is allowed and what to do next."""
