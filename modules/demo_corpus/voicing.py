"""Synthesis of a waveform from a speaker, a prosody and a sentence."""

from typing import Any

import numpy as np

from modules.demo_corpus.espeak import Espeak
from modules.demo_corpus.prosody import Prosody
from modules.demo_corpus.speakers import Speaker

_REFERENCE_RMS = 10 ** (-26 / 20)  # of neutral speech, relative to full scale
_PEAK_LIMIT = 0.89
_TILT_PIVOT_HZ = 800.0
_TILT_FLOOR_HZ = 100.0
_OVERSAMPLING = 4
_TREMOR_HZ = (5.0, 9.0)
_LEAD_SEC, _TAIL_SEC = (0.45, 0.75), (0.35, 0.75)


def render(
    espeak: Espeak, sentence: str, *, speaker: Speaker, prosody: Prosody, rng: np.random.Generator
) -> np.ndarray:
    """Render a sentence with a speaker's voice, a prosody and the noise of a room.

    Args:
        espeak: Synthesiser.
        sentence: Text to synthesise.
        speaker: Voice.
        prosody: Offsets from the neutral voice.
        rng: Source of randomness of this clip.

    Returns:
        float64 of shape ``[samples]`` at ``espeak.sample_rate_hz``, within ±0.89.
    """
    rate_hz = espeak.sample_rate_hz
    voice = speaker.voice(
        pitch_ratio=2 ** (prosody.pitch_semitones / 12),
        range_ratio=float(np.clip(2**prosody.range_octaves, 0.2, 3)),
    )
    speech = espeak.synthesise(
        sentence,
        voice=voice,
        words_per_minute=int(np.clip(speaker.words_per_minute * 2**prosody.rate_octaves, 90, 300)),
        word_gap_10ms=max(0, round(prosody.pause_ms / 10)),
    )
    speech = _bend_pitch(speech, _pitch_curve(len(speech), rate_hz, prosody, rng))
    speech = _tilt(speech, rate_hz, prosody.tilt_db_per_octave + speaker.tilt_db_per_octave)
    speech *= _REFERENCE_RMS / np.sqrt(np.mean(speech**2)) * _amplitude(prosody.level_db + speaker.level_db)
    clip = np.pad(speech, [int(rate_hz * rng.uniform(*span)) for span in (_LEAD_SEC, _TAIL_SEC)])
    clip += rng.normal(scale=_amplitude(speaker.noise_db), size=clip.size)
    return clip * min(1.0, _PEAK_LIMIT / np.max(np.abs(clip)))


def _amplitude(level_db: float | np.ndarray) -> Any:  # a number or an array, as its argument
    return 10 ** (level_db / 20)


def _pitch_curve(samples: int, rate_hz: int, prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """Return the factor of the pitch at every sample, float64 ``[samples]``: tremor and final movement."""
    time_sec = np.arange(samples) / rate_hz
    phase = 2 * np.pi * (rng.uniform(*_TREMOR_HZ) * time_sec + rng.uniform())
    tremor = 1 + abs(prosody.tremor_percent) / 100 * np.sin(phase)
    progress = np.clip(3 * np.arange(samples) / samples - 2, 0, 1)
    return tremor * 2 ** (prosody.final_semitones / 12 * progress)


def _bend_pitch(samples: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Resample at a varying speed; oversampling keeps the error of linear interpolation inaudible."""
    length = _fast_length(samples.size)
    dense = np.fft.irfft(np.fft.rfft(samples, length), _OVERSAMPLING * length) * _OVERSAMPLING
    position = np.concatenate([[0.0], np.cumsum(1 / factor[:-1])])  # output time of each sample
    source = np.interp(np.arange(int(position[-1])), position, np.arange(samples.size))
    return np.interp(source * _OVERSAMPLING, np.arange(dense.size), dense)


def _tilt(samples: np.ndarray, rate_hz: int, slope_db_per_octave: float) -> np.ndarray:
    length = _fast_length(samples.size)
    frequency_hz = np.maximum(np.fft.rfftfreq(length, 1 / rate_hz), _TILT_FLOOR_HZ)
    gain_db = slope_db_per_octave * np.log2(frequency_hz / _TILT_PIVOT_HZ)
    return np.fft.irfft(np.fft.rfft(samples, length) * _amplitude(gain_db), length)[: samples.size]


def _fast_length(samples: int) -> int:
    """Return the next multiple of 4096; Fourier transforms of prime length take many times longer."""
    return -(-samples // 4096) * 4096
