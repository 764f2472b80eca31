"""Ctrl-C in place of which a library raises an error of its own."""

import signal

import pytest

from modules.common import interruption


def _of_a_library() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as pressed:
        raise RuntimeError("of a library") from pressed


@pytest.fixture(autouse=True)
def python_handles_ctrl_c():
    """As in a shell's foreground, whatever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_error_after_ctrl_c_is_the_interruption():
    with pytest.raises(KeyboardInterrupt), interruption.kept(), interruption.kept():
        _of_a_library()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_without_ctrl_c_stays():
    with pytest.raises(ValueError, match="of a user"), interruption.kept():
        raise ValueError("of a user")


def test_an_ignored_ctrl_c_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruption.kept():
        signal.raise_signal(signal.SIGINT)
