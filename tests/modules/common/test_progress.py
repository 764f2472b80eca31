import io
import threading

from modules.common import progress
from modules.common.progress import Progress


class Clock:
    def __init__(self):
        self.now_sec = 100.0

    def __call__(self):
        return self.now_sec


def lines_of(steps, *, total=1440, every_sec=3.0):
    clock, stream = Clock(), io.StringIO()
    shown = Progress("AudioExampleGen", total=total, unit="clips", every_sec=every_sec, stream=stream, clock=clock)
    for at_sec, units in steps:
        clock.now_sec = 100.0 + at_sec
        shown.advance(units)
    return stream.getvalue().splitlines()


def test_a_line_states_progress_and_remaining_time():
    lines = lines_of([(2.0, 40), (18.0, 600)])
    assert lines == ["AudioExampleGen  640/1440 clips  44 %  18 s, about 21 s left"]


def test_lines_are_throttled_except_the_last():
    lines = lines_of([(second / 10, 1) for second in range(1, 101)], total=100)
    assert [line.split("  ")[1] for line in lines] == ["30/100 clips", "60/100 clips", "90/100 clips", "100/100 clips"]
    assert lines[-1].endswith("100 %  10 s")


def test_the_first_line_has_no_estimate():
    assert lines_of([(5.0, 1)]) == ["AudioExampleGen  1/1440 clips  0 %  5 s"]


def test_threads_lose_no_unit():
    stream = io.StringIO()
    shared = Progress("x", total=8000, unit="clips", stream=stream)
    with progress.shown("run", shared):
        threads = [threading.Thread(target=lambda: [progress.advance("run") for _ in range(1000)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stream.getvalue().splitlines()[-1].startswith("x  8000/8000 clips  100 %")


def test_advancing_an_unregistered_key_prints_nothing(capsys):
    progress.advance("unregistered")
    assert capsys.readouterr().err == ""
