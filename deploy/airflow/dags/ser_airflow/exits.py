"""Exit codes of ``ser`` that the DAG acts on; docs/reference/exit-codes.md has all of them."""

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

DONE, REFUSED, DIFFERENT = 0, 2, 3


def require_words(words: list[str]) -> None:
    """Skip the task when a word of its command is empty: what it needs does not exist, or is not set.

    Args:
        words: Rendered command.

    Raises:
        AirflowSkipException: A word is empty.
    """
    if "" in words:
        raise AirflowSkipException(f"nothing to do: `{' '.join(words)}` lacks a value, which is empty here")


def checked(code: int, *, different_fails: bool) -> int:
    """Return the exit code of a command that did its work: 0, or 3 for a difference.

    Args:
        code: Exit code.
        different_fails: Whether a difference stops the run.

    Raises:
        AirflowFailException: A retry would end the same way.
        AirflowException: It failed, and may be retried.
    """
    if code == DONE or (code == DIFFERENT and not different_fails):
        return code
    if code in (REFUSED, DIFFERENT):
        raise AirflowFailException(f"exit code {code}; the reason is in the log")
    raise AirflowException(f"exit code {code}; the reason is in the log")
