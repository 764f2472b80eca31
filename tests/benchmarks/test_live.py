"""Sound and table of the benchmark; the stream of an hour takes minutes."""

import numpy as np
import pytest

from benchmarks import live


def test_the_sound_has_a_tone_noise_and_silence_for_ten_seconds_each():
    sound = np.concatenate(list(live.Microphone(0.55).chunks()))
    assert len(sound) == 33 * live.RATE_HZ
    assert [part.any() for part in np.split(sound[: 30 * live.RATE_HZ], 3)] == [True, True, False]
    np.testing.assert_array_equal(sound[30 * live.RATE_HZ :], sound[: 3 * live.RATE_HZ])


def test_the_delay_is_that_of_chunks_in_real_time(monkeypatch):
    microphone = live.Microphone(1.0)
    chunks = microphone.chunks()
    monkeypatch.setattr(live.time, "perf_counter", lambda: 7.0)
    for _ in range(36):  # 3.6 s, of which the last chunk completes the window
        next(chunks)
    monkeypatch.setattr(live.time, "perf_counter", lambda: 7.2)
    assert microphone.delay_sec(3.52) == pytest.approx(0.28)


def test_the_table_has_a_row_for_each_interval():
    *_, row = live.to_markdown([live.Row(10.0, 597, 0.1234, 173.4, 1329.2)]).splitlines()
    assert row == "| 10 | 597 | 123 | 173 | 1329 |"
