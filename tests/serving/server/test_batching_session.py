"""The rules of TF Serving's batching session in its stand-in, and a real model behind them."""

import concurrent.futures

import numpy as np
import pytest

from serving.client import AudioError, Client, parts
from serving.client.recordings import to_wav
from serving.server.errors import StatusError
from tests.fakes.tf_serving import BatchingSession, FakeTfServing


@pytest.fixture(scope="module")
def session(exported_model):
    return BatchingSession(str(exported_model), batch_items=2)


def run_together(session, signature, *requests):
    """Return the outputs or errors of requests that form one batch."""

    def run(inputs):
        try:
            return session.run(signature, inputs)
        except StatusError as error:
            return error

    before = len(session.batches[signature])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(run, requests))
    assert session.batches[signature][before:] == [len(requests)]
    return answers


@pytest.fixture(scope="module")
def strict_session(strict_model):
    return BatchingSession(str(strict_model), batch_items=2)


def ones(samples):
    return {"samples": np.ones((1, samples), np.float32)}


CALLERS = 32


BAD_CALLER = 7


def of_every_length(speechlike):
    """Return a recording for each caller, 0.5 to 3.6 s, of one window each, with three sample rates."""
    rates_hz = [(8_000, 22_050, 48_000)[number % 3] for number in range(CALLERS)]
    return [
        (speechlike(0.5 + number / 10, rate_hz=rate_hz, seed=number), rate_hz)
        for number, rate_hz in enumerate(rates_hz)
    ]


@pytest.fixture(scope="module")
def full_session(exported_model):
    return BatchingSession(str(exported_model), batch_items=CALLERS, timeout_sec=60)


@pytest.fixture(params=["TF Serving", "ser serve, gRPC", "ser serve, REST"])
def address(request, full_session, shared_server):
    if request.param == "TF Serving":
        with FakeTfServing({4}, served=[4], session=full_session).listening() as address:
            yield address
    else:
        yield shared_server.address if request.param == "ser serve, gRPC" else shared_server.rest_url


def test_requests_of_a_batch_get_their_own_answers(strict_session):
    answers = run_together(strict_session, "serving_default", ones(3), {"samples": np.full((1, 3), 2, np.float32)})
    assert [answer["sums"].tolist() for answer in answers] == [[3], [6]]


def test_requests_of_different_lengths_fail_together(strict_session):
    errors = run_together(strict_session, "serving_default", ones(3), ones(4))
    assert [error.status.name for error in errors] == ["FAILED_PRECONDITION"] * 2


def test_requests_of_a_batch_get_one_status(strict_session):
    errors = run_together(strict_session, "serving_default", ones(3), {"samples": np.zeros((1, 3), np.float32)})
    assert [error.status.name for error in errors] == ["INVALID_ARGUMENT"] * 2


def test_a_broken_recording_fails_alone_in_its_batch(address, full_session, shared_server, speechlike, monkeypatch):
    recordings = of_every_length(speechlike)
    expected = [shared_server.predict_from_features_of(to_wav(recording)) for recording in recordings]
    # Sent without the client's own check, which would detect the fault.
    recordings[BAD_CALLER] = to_wav(recordings[BAD_CALLER])[:5_000]
    monkeypatch.setattr(parts, "to_wav", lambda audio, **_: audio if isinstance(audio, bytes) else to_wav(audio))

    def predict(recording):
        try:
            return client.predict(recording)
        except AudioError as error:
            return error

    with Client(address, timeout_sec=120) as client, concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(predict, recordings))
    error = answers[BAD_CALLER]
    assert isinstance(error, AudioError)
    assert error.code == "AUDIO_TRUNCATED"
    for number, answer in enumerate(answers):
        if number != BAD_CALLER:
            np.testing.assert_allclose(list(answer.probabilities.values()), expected[number], atol=1e-4)


def test_simultaneous_callers_form_one_batch(full_session, speechlike):
    with (
        FakeTfServing({4}, served=[4], session=full_session).listening() as address,
        Client(address, timeout_sec=120) as client,
        concurrent.futures.ThreadPoolExecutor(CALLERS) as pool,
    ):
        before = len(full_session.batches["serving_default"])
        answers = list(pool.map(client.predict, of_every_length(speechlike)))
    assert full_session.batches["serving_default"][before:] == [CALLERS]
    assert {answer.model_version for answer in answers} == {4}
    assert len({answer.probabilities["sad"] for answer in answers}) == CALLERS


def test_timelines_at_the_same_time_have_their_own_windows(session, shared_server, speechlike):
    recordings = [(speechlike(1.0), 48_000), (speechlike(6.2, seed=1), 48_000)]
    before = len(session.batches["timeline"])
    with (
        FakeTfServing({4}, served=[4], session=session).listening() as address,
        Client(address, timeout_sec=120) as client,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        together = list(pool.map(lambda recording: list(client.timeline(recording)), recordings))
    assert session.batches["timeline"][before:] == [2]
    with Client(shared_server.address, timeout_sec=60) as client:
        for segments, recording in zip(together, recordings, strict=True):
            alone = list(client.timeline(recording))
            assert [segment.start_sec for segment in segments] == [segment.start_sec for segment in alone]
            for one, other in zip(segments, alone, strict=True):
                assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_waveforms_of_different_lengths_are_one_batch(session, speechlike):
    def sound(waveform, rate_hz=48_000):
        return {
            "waveform": np.array([waveform.tobytes()], object),
            "sample_rate_hz": np.array([rate_hz], np.int32),
        }

    first, second = run_together(session, "waveform", sound(speechlike(1.0)), sound(speechlike(3.0, seed=1)))
    assert first["error"].tolist() == second["error"].tolist() == [b""]
    assert not np.allclose(first["probabilities"], second["probabilities"], atol=1e-4)
    again, bad = run_together(session, "waveform", sound(speechlike(1.0)), sound(speechlike(3.0), rate_hz=0))
    np.testing.assert_allclose(again["probabilities"], first["probabilities"], atol=1e-5)
    assert bad["error"][0].startswith(b"AUDIO_SAMPLE_RATE: ")
