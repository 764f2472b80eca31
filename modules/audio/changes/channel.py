"""Channels between the speaker and the file: telephones, filters and spectral tilts."""

import io

import numpy as np

from modules.audio.augmentation import telephone
from modules.audio.augmentation.coloured_noise import ColouredNoise
from modules.audio.augmentation.mixing import with_power_of
from modules.audio.augmentation.tilt import weighted
from modules.audio.changes.change import Change, Place, Sound

_TILT_HZ = 8000  # half the rate of the published filters, which are for 16 kHz
_COMPRESSOR_THRESHOLD_DB, _COMPRESSOR_SLOPE = -20.0, 0.8
_ATTACK_SEC, _RELEASE_SEC, _STEP_SEC = 0.01, 0.02, 0.001
_AMR_BITS_SEC = 7400
_PHONE_NOISE_DB, _PHONE_NOISE_HZ, _PHONE_NOISE_ORDER = -25.0, 3000, 2


def over_the_telephone(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return samples from 300 to 3400 Hz at 8 kHz, by a Butterworth band-pass of order 8."""
    return telephone.in_band(samples, rate_hz), telephone.RATE_HZ


def over_a_low_quality_phone(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return compressed samples after AMR at 7.4 kbit/s, with noise above 3 kHz, at the original's rate and power.

    The steps are those of ser-tests. The codec needs the optional PyAV (:func:`modules.audio.containers.can_read`).
    """
    import soxr
    from scipy import signal

    narrow = soxr.resample(_peak_normalised(samples), rate_hz, telephone.RATE_HZ)
    received = _amr(np.clip(_compressed(narrow, telephone.RATE_HZ), -1, 1))
    speech = _peak_normalised(soxr.resample(received, telephone.RATE_HZ, rate_hz))
    if rate_hz > 2 * _PHONE_NOISE_HZ:
        filters = signal.butter(_PHONE_NOISE_ORDER, _PHONE_NOISE_HZ, btype="highpass", fs=rate_hz, output="sos")
        speech = speech + signal.sosfilt(filters, _pink_noise(speech, place))
    return with_power_of(speech, samples), rate_hz


def _peak_normalised(samples: np.ndarray) -> np.ndarray:
    return samples / (np.abs(samples).max() or 1)


def _pink_noise(speech: np.ndarray, place: Place) -> np.ndarray:
    """Return noise as long as the speech with a peak of -25 dB, whose power falls by 3 dB an octave."""
    noisy = ColouredNoise(exponent=1.0, snr_db=0.0, seed=int(place.rng.integers(2**63)))
    noise = noisy.apply(speech, sample_rate_hz=telephone.RATE_HZ) - speech
    return _peak_normalised(noise) * 10 ** (_PHONE_NOISE_DB / 20)


def _amr(samples: np.ndarray) -> np.ndarray:
    """Return samples at 8 kHz after the Adaptive Multi-Rate codec, float32 ``[samples]``."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="amr") as written:
        stream = written.add_stream("libopencore_amrnb", rate=telephone.RATE_HZ, layout="mono", bit_rate=_AMR_BITS_SEC)
        frame = av.AudioFrame.from_ndarray(np.round(samples * 32767).astype(np.int16)[None], "s16", "mono")
        frame.rate = telephone.RATE_HZ
        written.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    with av.open(file, "r", format="amr") as read:
        resampler = av.AudioResampler("flt", "mono", telephone.RATE_HZ)
        parts = [part.to_ndarray()[0] for frame in read.decode(audio=0) for part in resampler.resample(frame)]
    decoded = np.concatenate(parts)
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)]


def _compressed(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return samples whose level above the threshold grows by 0.8 dB for each dB, as a feed-forward compressor."""
    step = round(_STEP_SEC * rate_hz)
    whole = np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)
    peaks = np.abs(whole).max(axis=1)
    attack, release = (1 - np.exp(-_STEP_SEC / time_sec) for time_sec in (_ATTACK_SEC, _RELEASE_SEC))
    level, levels = 0.0, np.empty(len(peaks))
    for number, peak in enumerate(peaks):
        level += (attack if peak > level else release) * (peak - level)
        levels[number] = level
    over_db = np.maximum(20 * np.log10(np.maximum(levels, 1e-9)) - _COMPRESSOR_THRESHOLD_DB, 0)
    gains = 10 ** ((_COMPRESSOR_SLOPE - 1) * over_db / 20)
    return samples * np.repeat(gains, step)[: len(samples)]


def high_passed(*cutoffs_hz: float) -> Change:
    """Return a change by a Butterworth high-pass of order 1; one of the cut-off frequencies is drawn."""
    return _filtered("highpass", cutoffs_hz)


def low_passed(*cutoffs_hz: float) -> Change:
    """Return a change by a Butterworth low-pass of order 1; one of the cut-off frequencies is drawn."""
    return _filtered("lowpass", cutoffs_hz)


def _filtered(kind: str, cutoffs_hz: tuple[float, ...]) -> Change:
    """Return a filter; recordings whose rate cannot hold the frequency stay as they are."""

    def change(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
        from scipy import signal

        cutoff_hz = float(place.rng.choice(cutoffs_hz))
        if 2 * cutoff_hz >= rate_hz:
            return samples, rate_hz
        return signal.sosfilt(signal.butter(1, cutoff_hz, btype=kind, fs=rate_hz, output="sos"), samples), rate_hz

    return change


def tilted_down(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return samples whose amplitude falls linearly with frequency, from 1 at 0 Hz to 0 at 8 kHz and above."""
    return weighted(samples, rate_hz, lambda hz: np.maximum(1 - hz / _TILT_HZ, 0)), rate_hz


def tilted_up(samples: np.ndarray, rate_hz: int, place: Place) -> Sound:
    """Return samples whose amplitude rises linearly with frequency, from 0 at 0 Hz to 2 at 8 kHz and above."""
    return weighted(samples, rate_hz, lambda hz: np.minimum(2 * hz / _TILT_HZ, 2)), rate_hz
