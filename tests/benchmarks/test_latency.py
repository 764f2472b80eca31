import io

import soundfile

from benchmarks import latency


def test_the_clip_is_four_seconds_of_noise():
    samples, rate_hz = soundfile.read(io.BytesIO(latency.clip(44_100)))
    assert rate_hz == 44_100
    assert samples.shape == (4 * 44_100,)
    assert 0.05 < samples.std() < 0.2


def test_the_table_has_a_row_for_each_family():
    seconds = {("logmel", rate_hz): rate_hz / 1e7 for rate_hz in latency.RATES_HZ.values()}
    _, _, row = latency.to_markdown(seconds).splitlines()
    assert row == "| `logmel` | 4.8 ms | 4.4 ms | 2.4 ms | 1.6 ms |"
