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


def load(per_sec: float, server_cpu_ms: float) -> serving.Load:
    return serving.Load([0.01], per_sec, server_cpu_ms)


def measured(*, served_ms: float, served_per_sec: tuple[float, ...]) -> dict:
    """A model that takes 10 ms for one clip and manages 200 a second, a server, and the old way."""
    names = [f"{signature}, batching on" for signature in serving.SIGNATURES]
    one = {f"(a) {signature} in process": {"p50_ms": 10.0} for signature in serving.SIGNATURES}
    paces = dict.fromkeys(serving.BATCH_SIZES, serving.Pace(100.0, 10.0)) | {8: serving.Pace(200.0, 4.0)}
    rounds = []
    for per_sec in served_per_sec:
        loads = dict.fromkeys(names, load(per_sec, 8.0)) | {serving.OLD_WAY: load(20.0, 1.0)}
        loads |= {f"{signature}, floor": load(1000.0, 1.0) for signature in serving.SIGNATURES}
        rounds.append(serving.Round(loads, dict.fromkeys(serving.SIGNATURES, paces)))
    return serving.summary(0.1, one | {name: {"p50_ms": served_ms} for name in names}, rounds)


def test_goals_set_the_server_beside_the_model_and_the_old_way_round_by_round():
    found = serving.goals(measured(served_ms=12.0, served_per_sec=(100.0, 150.0, 160.0)))
    assert found["serving_default: one client's p50, at most 1.3 x (a) + 2 ms"] == (12.0, pytest.approx(15.0), ())
    share = found["features: 32 clients' throughput, at least 0.8 x (a) at its best batch"]
    assert share == (0.75, 0.8, (0.5, 0.75, 0.8))
    assert found["serving_default: 32 clients' throughput, at least 5 x (b)"] == (7.5, 5.0, (5.0, 7.5, 8.0))


def test_table_of_goals_judges_the_median_and_shows_the_rounds():
    table = serving._judged_goals(measured(served_ms=12.0, served_per_sec=(100.0, 150.0, 160.0)))
    assert "at its best batch | 0.75 | 0.50 to 0.80 | 0.80 | **no** |" in table
    assert "at least 5 x (b) | 7.50 | 5.00 to 8.00 | 5.00 | yes |" in table


def test_share_by_cpu_counts_the_best_batch_and_what_grpc_needs():
    found = measured(served_ms=12.0, served_per_sec=(150.0,))
    assert serving.shares_by_cpu(found, "features") == (4 / 8, 4 / (4 + 1))
