import numpy as np
import pytest

from benchmarks import serving
from serving.wire import predict_pb2 as wire


def test_requests_hold_what_the_model_is_called_with_directly():
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    asked = serving.requests_of([b"RIFF"], [(features, 2)])
    (sound,), (prepared,) = asked["serving_default"], asked["features"]
    np.testing.assert_array_equal(serving._array(prepared.inputs["features"]), features[np.newaxis])
    np.testing.assert_array_equal(serving._array(prepared.inputs["valid_frames"]), [2])
    assert [serving._array(tensor).tolist() for tensor in sound.inputs.values()] == [[b"RIFF"]]
    assert wire.PredictRequest.FromString(prepared.SerializeToString()) == prepared


def test_one_clients_candidates_take_turns_and_the_first_requests_are_not_counted():
    calls = []
    asked = {name: serving._by_number(calls.append, [f"{name}{number}" for number in range(64)]) for name in "ab"}
    latencies_sec = serving.one_client(asked, requests=3)
    assert {name: len(found) for name, found in latencies_sec.items()} == {"a": 3, "b": 3}
    assert calls[:2] == ["a59", "b59"]
    assert calls[-2:] == ["a2", "b2"]
    assert len(calls) == 16


def test_the_newest_version_is_the_largest_number(tmp_path):
    with pytest.raises(SystemExit, match="holds no version; run the pipeline first"):
        serving.newest_version(tmp_path)
    for name in ("9", "10", ".partial-11"):
        (tmp_path / name).mkdir()
    assert serving.newest_version(tmp_path).name == "10"


def measured(*, served_ms: float, served_per_sec: float) -> dict:
    """A model that takes 10 ms for one clip and manages 200 a second, a server, and the old way."""
    names = [f"{signature}, batching on" for signature in serving.SIGNATURES]
    one = {f"(a) {signature} in process": {"p50_ms": 10.0} for signature in serving.SIGNATURES}
    many = {name: {"per_sec": served_per_sec, "server_cpu_ms": 8.0} for name in names}
    many |= {f"{signature}, floor": {"server_cpu_ms": 1.0} for signature in serving.SIGNATURES}
    paces = {1: {"per_sec": 100.0, "cpu_ms": 10.0}, 8: {"per_sec": 200.0, "cpu_ms": 4.0}}
    return {
        "one client": one | {name: {"p50_ms": served_ms} for name in names},
        "many clients": many | {serving.OLD_WAY: {"per_sec": 20.0}},
        "in process": dict.fromkeys(serving.SIGNATURES, paces),
    }


def test_goals_set_the_server_beside_the_model_and_the_old_way():
    found = serving.goals(measured(served_ms=12.0, served_per_sec=150.0))
    assert found["serving_default: one client's p50, at most 1.3 x (a) + 2 ms"] == (12.0, pytest.approx(15.0))
    assert found["features: 32 clients' throughput, at least 0.8 x (a) at its best batch"] == (0.75, 0.8)
    assert found["serving_default: 32 clients' throughput, at least 5 x (b)"] == (7.5, 5.0)


def test_share_by_cpu_counts_the_best_batch_and_what_grpc_needs():
    found = measured(served_ms=12.0, served_per_sec=150.0)
    assert serving.shares_by_cpu(found, "features") == (4 / 8, 4 / (4 + 1))
