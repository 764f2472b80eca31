"""Audio specs of models that were pushed by earlier releases."""

import pytest

from modules.audio.spec import AudioSpec
from tests.original import ORIGINAL_AUDIO

_SHARED = '"hop_samples": 512, "mel_bands": 128, "mfcc_coefficients": 128, "n_fft": 2048, "sample_rate_hz": 22050'


@pytest.mark.parametrize(
    ("text", "spec", "fingerprint"),
    [
        (
            f'{{"feature_family": "logmel", {_SHARED}, "window_offset_sec": 0.5, "window_sec": 3.5}}',
            AudioSpec(),
            "95aeb687c80941a0",
        ),
        (
            f'{{"feature_family": "utterance", {_SHARED}, "window_offset_sec": 0.6, "window_sec": 2.5}}',
            ORIGINAL_AUDIO,
            "0d831b1c227118ba",
        ),
    ],
)
def test_stored_specs_stay_readable_and_keep_their_fingerprint(text, spec, fingerprint):
    assert AudioSpec.from_json(text) == spec
    assert spec.to_json() == text
    assert spec.fingerprint == fingerprint
