import numpy as np
import pytest

from benchmarks import robustness
from modules.audio import changes
from modules.evaluation.intervals import Predictions

RATE_HZ = 22_050


def tone(frequency_hz: float, length_sec: float = 2.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * frequency_hz * np.arange(round(length_sec * RATE_HZ)) / RATE_HZ)).astype("f4")


def power_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def changed(samples: np.ndarray, condition: str, clip: str = "clip", voices=()) -> tuple[np.ndarray, int]:
    return changes.changed(samples, RATE_HZ, robustness.CONDITIONS[condition], key=clip, voices=voices)


@pytest.fixture
def answers() -> tuple[dict[str, Predictions], dict[str, Predictions]]:
    """Predictions that are all right, and two thirds right."""
    labels, speakers = np.tile(np.arange(7), 8), np.repeat(["a", "b", "c", "d"], 14).tolist()
    wrong = np.eye(7)[(labels + (np.arange(56) % 3 == 0)) % 7]
    return tuple({"as recorded": Predictions.of(labels, rows, speakers)} for rows in (np.eye(7)[labels], wrong))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("condition", robustness.CONDITIONS)
def test_every_condition_is_reproducible(condition):
    samples = tone(500)
    voices = [tone(frequency) for frequency in (200, 300, 400, 600, 700)]
    first, rate_hz = changed(samples, condition, voices=voices)
    again, _ = changed(samples, condition, voices=voices)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert rate_hz > 0
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_has_the_stated_power_and_differs_by_clip(snr_db):
    samples = tone(500)
    noisy, other = (changed(samples, f"white noise, {snr_db} dB SNR", clip)[0] for clip in ("one", "two"))
    assert power_db(samples) - power_db(noisy - samples) == pytest.approx(snr_db, abs=0.3)
    assert np.abs(noisy - other).max() > 1e-3


def test_one_second_of_speech_starts_with_the_sound():
    samples = np.concatenate([1e-4 * tone(500, 0.5), tone(500)])
    speech, rate_hz = changed(samples, "one second of speech")
    assert len(speech) == rate_hz
    assert power_db(speech) == pytest.approx(power_db(tone(500)), abs=0.1)


def test_gain_stops_at_full_scale():
    samples = tone(500)
    softer, _ = changed(samples, "6 dB softer")
    louder, _ = changed(2 * samples, "6 dB louder")
    assert power_db(softer) - power_db(samples) == pytest.approx(-6, abs=0.01)
    assert np.abs(louder).max() == 1


@pytest.mark.parametrize(("frequency_hz", "passes"), [(100, False), (1000, True), (3900, False), (6000, False)])
def test_the_telephone_passes_its_band_only(frequency_hz, passes):
    samples, rate_hz = changed(tone(frequency_hz), "telephone band")
    assert rate_hz == 8000
    assert len(samples) == pytest.approx(2 * rate_hz, abs=1)
    lost_db = power_db(tone(frequency_hz)) - power_db(samples)
    assert lost_db == pytest.approx(0, abs=0.5) if passes else lost_db > 12


def test_silence_goes_before_and_the_first_second_is_kept():
    samples = tone(500)
    later, _ = changed(samples, "0.5 s of silence before")
    np.testing.assert_array_equal(later, np.concatenate([np.zeros(RATE_HZ // 2, np.float32), samples]))
    start, _ = changed(samples, "the first second alone")
    np.testing.assert_array_equal(start, samples[:RATE_HZ])


def test_table_compares_the_families(answers):
    head, _, line = robustness.families_table(*answers).splitlines()
    assert cells(head) == ["", "recipe: UAR %", "`original_cnn`: UAR %", "difference"]
    condition, right, wrong, difference = cells(line)
    assert (condition, right) == ("as recorded", "100.0 (100.0 to 100.0)")
    assert float(difference.split()[0]) == pytest.approx(100 - float(wrong.split()[0]), abs=0.11)


def test_table_of_parts_has_the_differences_to_the_recipe(answers):
    right, wrong = answers
    head, _, line = robustness.parts_table(wrong, {"without noise": right, "without gain": wrong}).splitlines()
    assert cells(head) == ["recipe less", "without noise", "without gain"]
    _, noise, gain = cells(line)
    assert float(noise.split()[0]) < -20
    assert gain == "+0.0 (+0.0 to +0.0)"
