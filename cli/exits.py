"""Exit codes of ``ser``, ``runner_local.py`` and ``runner_vertex.py``."""

import enum


class ExitCode(enum.IntEnum):
    """One table for every command.

    Attributes:
        meaning: Line of the documentation.
    """

    meaning: str

    DONE = 0, "Done. A run that reached a verdict is done, also when the model was rejected."
    FAILED = 1, "Started and failed: a component, a server, a request, or every recording."
    REFUSED = 2, "Refused: a command, an option, a setting, a path or a recording that cannot be used. Nothing ran."
    DIFFERENT = (
        3,
        "A difference: `ser drift` drift, `rollout watch` a loss, `corpus verify` other files, `accept` a failure.",
    )
    UNDECIDED = 4, "`ser rollout watch` ended or was interrupted without a verdict. Nothing was changed."
    PARTLY = 5, "Some recordings have an answer, others an error."
    INTERRUPTED = 130, "Interrupted with Ctrl-C."
    CLOSED = 141, "The reader of standard output closed it, as `head` does."

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """Take the meaning out of the value."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code
