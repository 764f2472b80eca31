import io

import soundfile

from benchmarks import latency


def test_the_clip_is_four_seconds_of_noise_at_48_khz():
    samples, rate_hz = soundfile.read(io.BytesIO(latency.clip()))
    assert rate_hz == 48_000
    assert samples.shape == (4 * 48_000,)
    assert 0.05 < samples.std() < 0.2
