"""Windows of sound that is still going on."""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cli.exits import ExitCode
from modules.export.contract import NO_SPEECH
from serving.client import AsyncClient, AudioError, Client, segments_of
from serving.client.live import Grid, LiveTimeline
from serving.client.parts import CHUNK_SEC
from tests.paths import RAVDESS_RATE_HZ, ROOT

GRID = Grid(window_sec=2.5, hop_sec=1.0)
RATE_HZ = 8_000


@pytest.fixture(scope="module")
def speech(ravdess):
    """About 20 s of an actor, float32 ``[samples]``."""
    clips = sorted(ravdess.glob("Actor_01/*.flac"))[::9][:6]
    return np.concatenate([soundfile.read(clip, dtype="float32")[0] for clip in clips])


@pytest.fixture(scope="module")
def client(shared_server):
    with Client(shared_server.address, timeout_sec=60) as client:
        yield client


def cut(samples, *frames):
    """Yield the samples in chunks of these sizes in turn."""
    start = 0
    for size in itertools.cycle(frames):
        if start >= len(samples):
            return
        yield samples[start : start + size]
        start += size


def assert_same(windows, expected):
    # Resampled in parts, sound differs at the edges. Rounding to 16 bits moves the measure by up to 0.02, too.
    assert [window.speech for window in windows] == pytest.approx([it.speech for it in expected], abs=2e-2)
    assert [window.start_sec for window in windows] == pytest.approx([it.start_sec for it in expected], abs=1e-3)
    assert [window.end_sec for window in windows] == pytest.approx([it.end_sec for it in expected], abs=1e-3)
    for one, other in zip(windows, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=2e-3)


@pytest.mark.parametrize("frames", [(2_205,), (100_000,), (1, 50_000, 333)])
def test_live_windows_are_those_of_the_file(client, speech, frames):
    windows = list(client.live(cut(speech, *frames), RAVDESS_RATE_HZ))
    assert_same(windows, list(client.timeline((speech, RAVDESS_RATE_HZ))))


@pytest.mark.parametrize("duration_sec", [1.0, 2.5, 4.5])
def test_short_sound_has_the_windows_of_the_file(client, speech, duration_sec):
    samples = speech[: round(duration_sec * RAVDESS_RATE_HZ)]
    assert_same(
        list(client.live(cut(samples, 999), RAVDESS_RATE_HZ)), list(client.timeline((samples, RAVDESS_RATE_HZ)))
    )


def test_a_window_is_answered_as_soon_as_its_samples_are_there(client, speech):
    chunk_frames, arrived = 2_205, 0

    def arriving():
        nonlocal arrived
        for chunk in cut(speech, chunk_frames):
            arrived += len(chunk)
            yield chunk

    for window in client.live(arriving(), RAVDESS_RATE_HZ):
        assert arrived <= window.end_sec * RAVDESS_RATE_HZ + chunk_frames


@pytest.fixture(scope="module")
def telephone(speech):
    """The same speech, float32 ``[samples]`` at 8 kHz."""
    return librosa.resample(speech, orig_sr=RAVDESS_RATE_HZ, target_sr=RATE_HZ)


SPEECH, SILENCE = "speech", "silence"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([SPEECH, SILENCE]), st.floats(0.2, 12.0)), min_size=1, max_size=4))
@example([(SILENCE, 7.0), (SPEECH, 5.0)])
@example([(SPEECH, 5.0), (SILENCE, 8.0), (SPEECH, 5.0)])
@example([(SPEECH, 5.0), (SILENCE, 7.3)])
@example([(SPEECH, 5.0), (SILENCE, CHUNK_SEC + 8), (SPEECH, 5.0)])
@example([(SILENCE, 2 * CHUNK_SEC), (SPEECH, 3.0)])
@example([(SPEECH, CHUNK_SEC - 0.1), (SILENCE, CHUNK_SEC)])
@example([(SILENCE, CHUNK_SEC + 5)])
def test_silence_has_no_speech_live_and_in_a_file_wherever_it_is(client, telephone, parts):
    sounds = [np.resize(telephone, frames) * (kind == SPEECH) for kind, frames in in_frames(parts)]
    recording = np.concatenate(sounds).astype(np.float32)
    windows = list(client.live(cut(recording, 5_000), RATE_HZ))
    assert_same(windows, list(client.timeline((recording, RATE_HZ))))
    for window in windows:
        start, end = (round(sec * RATE_HZ) for sec in (window.start_sec, window.end_sec))
        if not recording[start:end].any():
            assert (window.emotion, window.speech) == (NO_SPEECH, 0)
    segments = list(segments_of(windows))
    assert (segments[0].start_sec, segments[-1].end_sec) == (0, pytest.approx(len(recording) / RATE_HZ, abs=1e-3))
    for one, following in itertools.pairwise(segments):
        assert one.end_sec == following.start_sec


def in_frames(parts):
    return [(kind, round(seconds * RATE_HZ)) for kind, seconds in parts]


def test_the_async_client_gives_the_same_windows(client, shared_server, speech):
    async def arriving():
        for chunk in cut(speech, 7_000):
            yield chunk

    async def listen():
        async with AsyncClient(shared_server.address, timeout_sec=60) as asynchronous:
            return [window async for window in asynchronous.live(arriving(), RAVDESS_RATE_HZ)]

    windows = asyncio.run_coroutine_threadsafe(listen(), shared_server.loop).result(60)
    assert_same(windows, list(client.live(cut(speech, 7_000), RAVDESS_RATE_HZ)))


def test_unusable_samples_are_an_error(client):
    with pytest.raises(AudioError, match="int64"):
        list(client.live([np.zeros(RATE_HZ * 4, np.int64)], RATE_HZ))


def test_an_hour_needs_no_more_memory_than_a_minute():
    chunk = np.random.default_rng(0).normal(0, 0.1, RATE_HZ // 10).astype(np.float32)

    def peak_bytes(seconds):
        timeline = LiveTimeline(GRID, RATE_HZ)
        tracemalloc.start()
        windows = 0
        for _ in range(seconds * 10):
            timeline.add(chunk.copy())
            windows += timeline.next_window() is not None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert windows == seconds - 2
        return peak

    assert peak_bytes(3_600) < 1.1 * peak_bytes(60)


LISTEN = [sys.executable, "-c", "from cli.main import main; main()", "listen"]


def test_listen_prints_before_the_sound_has_ended(shared_server, speech, tmp_path):
    file = tmp_path / "speech.wav"
    soundfile.write(file, speech, RAVDESS_RATE_HZ)
    content = file.read_bytes()
    words = [*LISTEN, "-", "--windows", "--address", shared_server.address]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False) as process:
        process.stdin.write(content[: 44 + 2 * 5 * RAVDESS_RATE_HZ])
        process.stdin.flush()
        first = process.stdout.readline().decode()
        process.stdin.write(content[44 + 2 * 5 * RAVDESS_RATE_HZ :])
        process.stdin.close()
        rest = process.stdout.read().decode().splitlines()
    assert first.split()[:3] == ["0.0", "to", "2.5"]
    assert process.returncode == ExitCode.DONE
    with Client(shared_server.address, timeout_sec=60) as client:
        assert len(rest) + 1 == len(list(client.timeline(file)))


@pytest.mark.skipif(not shutil.which("arecord"), reason="arecord is not installed (Debian: alsa-utils)")
def test_listen_takes_the_microphone_until_it_is_interrupted(shared_server, speech, tmp_path):
    """The real arecord, whose default device plays a file through ALSA's null device."""
    heard = librosa.resample(speech, orig_sr=RAVDESS_RATE_HZ, target_sr=16_000)
    soundfile.write(tmp_path / "speech.wav", heard, 16_000)
    soundfile.write(tmp_path / "speech.raw", heard, 16_000, subtype="PCM_16", format="RAW")
    device = f"type file; slave.pcm {{ type null }}; file /dev/null; infile {tmp_path}/speech.raw; format raw"
    (tmp_path / "asoundrc").write_text(f"pcm.!default {{ {device} }}")
    environ = os.environ | {"ALSA_CONFIG_PATH": str(tmp_path / "asoundrc")}
    words = [*LISTEN, "--windows", "--address", shared_server.address]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, env=environ, **pipes) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == ExitCode.DONE, complaints
    with Client(shared_server.address, timeout_sec=60) as client:
        window = next(client.timeline(tmp_path / "speech.wav"))
    assert first.split()[:5] == ["0.0", "to", "2.5", "s", window.emotion]


def test_listen_takes_the_microphone_of_arecord(shared_server, speech, tmp_path):
    soundfile.write(tmp_path / "speech.wav", speech, RAVDESS_RATE_HZ)
    recorder = tmp_path / "arecord"
    recorder.write_text(f"#!/bin/sh\ncat {tmp_path}/speech.wav\n")
    recorder.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [*LISTEN, "--json", "--address", shared_server.address]
    finished = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert finished.returncode == ExitCode.DONE, finished.stderr
    assert finished.stdout.startswith('{"emotion": ')
    recorder.write_text("#!/bin/sh\necho no such device >&2\nexit 1\n")
    failed = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert failed.returncode == ExitCode.FAILED
    assert "no such device" in failed.stderr


@pytest.mark.parametrize("words", [["file.wav"], ["-"]])
def test_listen_refuses_what_is_not_live(shared_server, words):
    command = [*LISTEN, *words, "--address", shared_server.address]
    finished = subprocess.run(command, cwd=ROOT, input="no sound", capture_output=True, text=True, check=False)
    assert finished.returncode == ExitCode.REFUSED
    assert "Traceback" not in finished.stderr
