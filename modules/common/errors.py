"""The base of this project's errors."""


class SerError(Exception):
    """An error with a stable code.

    Messages state what was found, what is allowed and what to do next. Their wording may improve; programs and tests
    rely on the code.

    Attributes:
        code: Stable identifier of the kind of error, in lower case with dots, such as ``audio.spec_mismatch``.
    """

    code: str = "ser"
