"""Error that ends a command with one line instead of a traceback."""

from modules.common.errors import SerError


class CommandFailed(SerError):
    """A command cannot be carried out, for a reason that the user can fix."""

    code = "command.failed"
