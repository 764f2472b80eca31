import numpy as np
import pytest

from benchmarks.serving import candidates, load, measurement, tables
from serving.wire import predict_pb2 as wire


def many_clients(per_sec: float, server_cpu_ms: float) -> load.Load:
    return load.Load([0.01], per_sec, server_cpu_ms)


def measured(*, served_ms: float, served_per_sec: tuple[float, ...]) -> dict:
    """Return measurements of a model with 10 ms for one clip and 200 clips per second, of a server, and of (b)."""
    names = [f"{signature}, batching on" for signature in candidates.SIGNATURES]
    one = {f"(a) {signature} in process": {"p50_ms": 10.0} for signature in candidates.SIGNATURES}
    paces = dict.fromkeys(load.BATCH_SIZES, load.Pace(100.0, 10.0)) | {8: load.Pace(200.0, 4.0)}
    rounds = []
    for per_sec in served_per_sec:
        loads = dict.fromkeys(names, many_clients(per_sec, 8.0)) | {measurement.LIBROSA_REST: many_clients(20.0, 1.0)}
        loads |= {f"{signature}, floor": many_clients(1000.0, 1.0) for signature in candidates.SIGNATURES}
        rounds.append(measurement.Round(loads, dict.fromkeys(candidates.SIGNATURES, paces)))
    return measurement.summary(0.1, one | {name: {"p50_ms": served_ms} for name in names}, rounds)


def test_requests_contain_the_inputs_of_the_direct_call():
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    requests = candidates.requests_of([b"RIFF"], [(features, 2, 0.75)])
    (sound,), (prepared,) = requests["serving_default"], requests["features"]
    np.testing.assert_array_equal(candidates.array_of(prepared.inputs["features"]), features[np.newaxis])
    np.testing.assert_array_equal(candidates.array_of(prepared.inputs["valid_frames"]), [2])
    np.testing.assert_array_equal(candidates.array_of(prepared.inputs["speech"]), np.array([0.75], np.float32))
    assert [candidates.array_of(tensor).tolist() for tensor in sound.inputs.values()] == [[b"RIFF"]]
    assert wire.PredictRequest.FromString(prepared.SerializeToString()) == prepared


def test_candidates_alternate_after_uncounted_requests():
    calls = []
    senders = {name: measurement.by_number(calls.append, [f"{name}{number}" for number in range(64)]) for name in "ab"}
    latencies_sec = load.one_client(senders, requests=3)
    assert {name: len(values) for name, values in latencies_sec.items()} == {"a": 3, "b": 3}
    assert calls[:2] == ["a59", "b59"]
    assert calls[-2:] == ["a2", "b2"]
    assert len(calls) == 16


def test_the_newest_version_is_the_largest_number(tmp_path):
    with pytest.raises(SystemExit, match=str(tmp_path)):
        measurement.newest_version(tmp_path)
    for name in ("9", "10", ".partial-11"):
        (tmp_path / name).mkdir()
    assert measurement.newest_version(tmp_path).name == "10"


def test_goals_compare_the_server_round_by_round():
    goals = tables.goals(measured(served_ms=12.0, served_per_sec=(100.0, 150.0, 160.0)))
    assert goals["serving_default: one client's p50, at most 1.3 x (a) + 2 ms"] == (12.0, pytest.approx(15.0), ())
    share = goals["features: 32 clients' throughput, at least 0.8 x (a) at its best batch"]
    assert share == (0.75, 0.8, (0.5, 0.75, 0.8))
    assert goals["serving_default: 32 clients' throughput, at least 5 x (b)"] == (7.5, 5.0, (5.0, 7.5, 8.0))


def test_table_of_goals_has_the_median_and_the_range():
    table = tables.goals_table(measured(served_ms=12.0, served_per_sec=(100.0, 150.0, 160.0)))
    assert "at its best batch | 0.75 | 0.50 to 0.80 | 0.80 | **no** |" in table
    assert "at least 5 x (b) | 7.50 | 5.00 to 8.00 | 5.00 | yes |" in table


def test_share_by_cpu_uses_the_best_batch_and_the_floor():
    numbers = measured(served_ms=12.0, served_per_sec=(150.0,))
    assert tables.shares_by_cpu(numbers, "features") == (4 / 8, 4 / (4 + 1))
