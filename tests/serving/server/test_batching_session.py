"""The rules of TF Serving's batching session in its stand-in, with a real model."""

import concurrent.futures

import numpy as np
import pytest

from serving.client import Client
from serving.server.errors import Fault
from tests.fakes.tf_serving import BatchingSession, FakeTfServing


@pytest.fixture(scope="module")
def session(exported_model):
    return BatchingSession(str(exported_model), batch_items=2)


def run_together(session, signature, *requests):
    """Outputs or Faults of requests that are one batch."""

    def run(inputs):
        try:
            return session.run(signature, inputs)
        except Fault as fault:
            return fault

    before = len(session.batches[signature])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(run, requests))
    assert session.batches[signature][before:] == [len(requests)]
    return answers


def sound(waveform, rate_hz=48_000):
    return {"waveform": waveform[np.newaxis], "sample_rate_hz": np.array([rate_hz], np.int32)}


def test_requests_of_a_batch_get_their_own_answers(session, speechlike):
    inputs = [sound(speechlike(seed=seed)) for seed in range(2)]
    first, second = run_together(session, "waveform", *inputs)
    alone, _ = run_together(session, "waveform", inputs[0], inputs[0])
    np.testing.assert_allclose(first["probabilities"], alone["probabilities"], atol=1e-5)
    assert not np.allclose(first["probabilities"], second["probabilities"], atol=1e-4)


def test_requests_of_different_lengths_fail_together(session, speechlike):
    faults = run_together(session, "waveform", sound(speechlike(2.0)), sound(speechlike(3.0)))
    assert [fault.code.name for fault in faults] == ["FAILED_PRECONDITION"] * 2


def test_requests_of_a_batch_get_one_status(session, speechlike):
    faults = run_together(session, "waveform", sound(speechlike()), sound(speechlike(), rate_hz=0))
    assert [fault.code.name for fault in faults] == ["INVALID_ARGUMENT"] * 2


def test_concurrent_clients_are_answered_by_one_batch(exported_model, speechlike):
    recordings = [(speechlike(1.0 + seed / 8, seed=seed), 48_000) for seed in range(8)]
    session = BatchingSession(str(exported_model), batch_items=len(recordings))
    with (
        FakeTfServing({4}, served=[4], session=session).listening() as address,
        Client(address, timeout_sec=60) as client,
        concurrent.futures.ThreadPoolExecutor(len(recordings)) as pool,
    ):
        answers = list(pool.map(client.predict, recordings))
    assert session.batches == {"serving_default": [8]}
    assert {answer.model_version for answer in answers} == {4}
    assert len({answer.probabilities["sad"] for answer in answers}) == 8


def test_a_timeline_ends_with_its_recording_in_a_batch_with_a_longer_one(exported_model, speechlike):
    session = BatchingSession(str(exported_model), batch_items=2)
    recordings = [(speechlike(seconds, rate_hz=8_000), 8_000) for seconds in (3.0, 8.0)]
    with (
        FakeTfServing({4}, served=[4], session=session).listening() as address,
        Client(address, timeout_sec=60) as client,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        short, long = pool.map(lambda recording: list(client.timeline(recording)), recordings)
    assert session.batches == {"timeline": [2]}
    assert [segments[-1].end_sec for segments in (short, long)] == pytest.approx([3.0, 8.0], abs=1e-3)
