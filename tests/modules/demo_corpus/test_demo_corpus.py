"""Content and reproducibility of the synthetic corpus."""

import collections
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modules.data.labels import EMOTIONS
from modules.demo_corpus import MARKER_FILE, is_synthetic
from modules.demo_corpus.corpus import MAX_CLIPS, README_FILE, OccupiedFolder, plan, write_corpus
from modules.demo_corpus.espeak import SynthesisFailed, process_espeak
from modules.demo_corpus.prosody import CORRELATES, Prosody, draw_prosody
from modules.demo_corpus.speakers import SPEAKERS, draw_speaker
from modules.demo_corpus.voicing import render

RATE_HZ = 22_050
SENTENCE = "Kids are talking by the door."


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """28 clips, each emotion four times, written by this process."""
    out = tmp_path_factory.mktemp("synth") / "demo"
    assert write_corpus(out, clips=28, seed=3, workers=1)
    return out


def test_workers_do_not_change_the_bytes(corpus, tmp_path):
    write_corpus(tmp_path / "demo", clips=28, seed=3, workers=2)
    assert digests(tmp_path / "demo") == digests(corpus)


def test_a_smaller_corpus_is_part_of_a_larger(corpus, tmp_path):
    write_corpus(tmp_path / "small", clips=5, seed=3, workers=1)
    write_corpus(tmp_path / "other", clips=5, seed=4, workers=1)
    whole = digests(corpus)
    small, other = (
        {path: digest for path, digest in digests(tmp_path / name).items() if path.endswith(".wav")}
        for name in ("small", "other")
    )
    assert small.items() <= whole.items()
    assert small.keys() == other.keys()
    assert not set(small.values()) & set(other.values())


def test_files_are_mono_pcm_with_silence_around_speech(corpus):
    clips = sorted(corpus.rglob("*.wav"))
    assert len(clips) == 28
    for clip in clips:
        info = soundfile.info(clip)
        assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")
        assert 1.5 < info.duration < 7
        samples, _ = soundfile.read(clip)
        assert 0.02 < np.max(np.abs(samples)) < 0.9
        # A model cannot learn from the quiet lead.
        assert np.max(np.abs(samples[: RATE_HZ // 3])) < 0.02


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_each_file_is_marked_as_synthetic(corpus, tmp_path, suffix):
    clip = min(corpus.rglob("*.wav"))
    assert is_synthetic(clip.read_bytes())
    with soundfile.SoundFile(clip) as source:
        copy = tmp_path / f"copy{suffix}"
        with soundfile.SoundFile(copy, "w", source.samplerate, channels=1) as converted:
            converted.comment = source.comment  # as ffmpeg and SoX keep it
            converted.write(source.read())
    assert is_synthetic(copy.read_bytes())
    soundfile.write(tmp_path / "plain.wav", np.zeros(RATE_HZ), RATE_HZ)
    assert not is_synthetic((tmp_path / "plain.wav").read_bytes())


def test_the_folder_is_marked_as_synthetic(corpus):
    assert "espeak-ng" in (corpus / README_FILE).read_text()
    marker = json.loads((corpus / MARKER_FILE).read_text())
    assert (marker["synthetic"], marker["clips"], marker["seed"]) == (True, 28, 3)


@pytest.mark.parametrize("clips", [1, 7, 24, 168, 171, 672, 1000])
def test_any_number_of_clips_is_balanced(clips):
    planned = plan(clips=clips, seed=0)
    assert len({clip.path for clip in planned}) == clips
    for counts in (
        collections.Counter(clip.emotion for clip in planned),
        collections.Counter(clip.speaker for clip in planned),
    ):
        assert max(counts.values()) - min(counts.values()) <= 1
    if clips >= 168:
        cells = collections.Counter((clip.emotion, clip.speaker) for clip in planned)
        assert len(cells) == SPEAKERS * len(EMOTIONS)


def test_names_stay_apart_in_the_largest_plan():
    paths = {clip.path for clip in plan(clips=MAX_CLIPS, seed=0)}
    assert len(paths) == MAX_CLIPS
    assert all(len(Path(path).stem) == len("03-01-01-01-01-01-01") for path in paths)


def test_neutral_has_no_strong_form():
    planned = plan(clips=672, seed=0)
    forms = collections.Counter((clip.emotion == "neutral", clip.intensity) for clip in planned)
    assert forms == {(True, "normal"): 96, (False, "normal"): 288, (False, "strong"): 288}


@pytest.mark.parametrize(("clips", "seed"), [(0, 0), (MAX_CLIPS + 1, 0), (7, -1)])
def test_numbers_out_of_range_are_refused(clips, seed, tmp_path):
    with pytest.raises(ValueError, match=r"clips is|seed is"):
        write_corpus(tmp_path / "demo", clips=clips, seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_the_same_corpus_is_kept_and_another_replaces_it(tmp_path):
    out = tmp_path / "demo"
    assert write_corpus(out, clips=2, workers=1)
    first = (out / MARKER_FILE).stat().st_ino
    assert not write_corpus(out, clips=2, workers=1)
    assert (out / MARKER_FILE).stat().st_ino == first
    assert write_corpus(out, clips=3, workers=1)
    assert len(list(out.rglob("*.wav"))) == 3
    next(out.rglob("*.wav")).unlink()
    assert write_corpus(out, clips=3, workers=1), "a corpus that lost a file is written again"
    assert len(list(out.rglob("*.wav"))) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_an_empty_folder_is_filled(tmp_path):
    assert write_corpus(tmp_path, clips=1, workers=1)
    assert (tmp_path / MARKER_FILE).is_file()


@pytest.mark.parametrize(
    "name", ["thesis.txt", "Actor_01/mine.wav", "Actor_01/03-01-05-01-01-01-01.wav", ".git/config"]
)
def test_a_folder_with_anything_else_is_left_alone(name, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("precious")
    with pytest.raises(OccupiedFolder):
        write_corpus(tmp_path, clips=1, workers=1)
    assert digests(tmp_path) == {name: hashlib.sha256(b"precious").hexdigest()}


def test_a_foreign_file_in_a_demo_corpus_is_kept(tmp_path):
    out = tmp_path / "demo"
    write_corpus(out, clips=1, workers=1)
    (out / "my.wav").write_text("precious")
    with pytest.raises(OccupiedFolder, match=r"my\.wav"):
        write_corpus(out, clips=2, workers=1)
    assert (out / "my.wav").read_text() == "precious"


def test_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "demo").write_text("precious")
    with pytest.raises(OccupiedFolder):
        write_corpus(tmp_path / "demo", clips=1, workers=1)
    assert (tmp_path / "demo").read_text() == "precious"


def test_nothing_is_visible_when_writing_fails(tmp_path):
    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "demo", clips=2, workers=1, progress=fail)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_deleted(tmp_path):
    (tmp_path / ".demo.partial" / "Actor_01").mkdir(parents=True)
    write_corpus(tmp_path / "demo", clips=1, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_speakers_differ_and_women_speak_higher():
    speakers = [draw_speaker(number, seed=0) for number in range(1, SPEAKERS + 1)]
    assert len({speaker.formant_percent for speaker in speakers}) == SPEAKERS
    men, women = ([s.pitch_hz for s in speakers if s.is_female is female] for female in (False, True))
    assert len(men) == len(women) == 12
    assert max(men) < min(women)


def test_every_emotion_has_its_correlates():
    assert set(CORRELATES) == set(EMOTIONS)


def test_emotions_keep_the_published_order_and_overlap():
    def draws(emotion: str) -> list[Prosody]:
        return [
            draw_prosody(emotion, intensity="normal", speaker=speaker, take=take, seed=0)
            for speaker in range(1, SPEAKERS + 1)
            for take in range(4)
        ]

    angry, sad, happy = ([p.level_db for p in draws(emotion)] for emotion in ("angry", "sad", "happy"))
    assert np.mean(angry) > np.mean(happy) > np.mean(sad)
    assert min(angry) < max(happy), "classes that do not overlap would be trivial"


def rendered(prosody: Prosody, *, text: str = SENTENCE) -> np.ndarray:
    quiet = draw_speaker(1, seed=0)
    return render(process_espeak(), text, speaker=quiet, prosody=prosody, rng=np.random.default_rng(0))


def pitch_hz(samples: np.ndarray) -> np.ndarray:
    """Pitch of the voiced frames, by librosa's YIN on the loudest half of them."""
    import librosa

    track = librosa.yin(samples, fmin=60, fmax=500, sr=RATE_HZ)
    loudness = librosa.feature.rms(y=samples)[0][: track.size]
    return track[loudness > np.median(loudness)]


def test_pitch_follows_the_prosody():
    low, high = (np.median(pitch_hz(rendered(Prosody(pitch_semitones=shift)))) for shift in (0, 12))
    assert high / low == pytest.approx(2, rel=0.1)


def test_rate_level_tilt_and_pauses_follow_the_prosody():
    def spoken_sec(samples: np.ndarray) -> float:
        voiced = np.flatnonzero(np.abs(samples) > 0.02)
        return (voiced[-1] - voiced[0]) / RATE_HZ

    def centroid_hz(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        return float(np.sum(power * np.fft.rfftfreq(samples.size, 1 / RATE_HZ)) / np.sum(power))

    plain = rendered(Prosody())
    assert spoken_sec(rendered(Prosody(rate_octaves=0.5))) < 0.85 * spoken_sec(plain)
    assert spoken_sec(rendered(Prosody(pause_ms=100))) > spoken_sec(plain) + 0.2
    assert centroid_hz(rendered(Prosody(tilt_db_per_octave=4))) > 1.3 * centroid_hz(plain)
    louder, softer = rendered(Prosody(level_db=3)), rendered(Prosody(level_db=-3))
    assert np.std(louder) / np.std(softer) == pytest.approx(2, rel=0.03)


def test_a_final_rise():
    voiced = pitch_hz(rendered(Prosody()))
    rising = pitch_hz(rendered(Prosody(final_semitones=8)))
    tail = len(rising) // 8
    assert np.median(rising[-tail:]) > 1.2 * np.median(voiced[-tail:])


def test_a_tremor():
    plain, steady, trembling = (pitch_hz(rendered(Prosody(tremor_percent=depth))) for depth in (0, 0.1, 5))

    def departure(track: np.ndarray) -> float:
        frames = min(len(track), len(plain))
        return float(np.median(np.abs(np.log(track[:frames] / plain[:frames]))))

    assert departure(steady) < 0.005
    assert departure(trembling) > 0.015


def test_the_same_sentence_sounds_the_same_after_others():
    first = rendered(Prosody())
    rendered(Prosody(pitch_semitones=5, pause_ms=50, rate_octaves=0.4), text="Dogs are sitting by the door.")
    np.testing.assert_array_equal(rendered(Prosody()), first)


def test_a_text_without_speech_is_an_error():
    voice = draw_speaker(1, seed=0).voice(pitch_ratio=1, range_ratio=1)
    with pytest.raises(SynthesisFailed):
        process_espeak().synthesise("", voice=voice, words_per_minute=170, word_gap_10ms=0)
