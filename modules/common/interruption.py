"""Ctrl-C, in place of which libraries raise errors of their own."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Raise KeyboardInterrupt in place of an error that follows Ctrl-C: Beam raises RuntimeError then.

    Where Ctrl-C is ignored, as by ``nohup``, nothing changes.

    Raises:
        KeyboardInterrupt: An error followed Ctrl-C.
    """
    before, pressed = signal.getsignal(signal.SIGINT), threading.Event()
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        before(number, frame)

    signal.signal(signal.SIGINT, press)
    try:
        yield
    except Exception as error:  # libraries raise any kind after Ctrl-C; without it the error goes on as it is
        if pressed.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
