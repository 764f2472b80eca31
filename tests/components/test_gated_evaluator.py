"""Evaluation of models: one that a run trained, and others that must be rejected."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tfx import types
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.atomic_pusher.executor import push
from components.gated_evaluator import extractors
from components.gated_evaluator.executor import (
    COMPARISON_FILE,
    METRICS_FILE,
    OVERRIDE_PROPERTY,
    Executor,
    why_incomparable,
)
from components.gated_evaluator.tfma_results import read_uars
from modules.data.labels import EMOTIONS
from modules.evaluation.gate import COMPARABLE, FINITE, GUESSING, TFMA, UAR_INTERVAL, UAR_LOSS, VARIETY, GateSettings
from modules.export.contract import (
    AUDIO_SPEC_FILE,
    EXAMPLES_FILE,
    EXTRA_ASSETS,
    LABELS_FILE,
    PROTOCOL_FILE,
    load_contract,
)
from modules.reporting.summary import Baseline, Check, Evaluation, Protocol, RunSummary, Verdict
from pipeline import eval_config
from tests.original import ORIGINAL_AUDIO

LENIENT = GateSettings(min_adjusted_uar=0, min_slice_adjusted_uar=0, max_uar_loss=1.0)
GUESSES = {VARIETY, UAR_INTERVAL, GUESSING}
"""Check that a constant model fails."""


STRICT = LENIENT.replace(max_uar_loss=0.0)


def artifact(kind: type[types.Artifact], uri: Path, number: int = 0) -> types.Artifact:
    made = kind()
    made.uri = str(uri)
    made.id = number
    return made


def protocol_of_blessing(artifacts: Path) -> Protocol:
    blessing = min((artifacts / "GatedEvaluator" / "blessing").iterdir())
    return Protocol.model_validate_json((blessing / PROTOCOL_FILE).read_text())


def failed(verdict: Verdict) -> set[str]:
    return {check.code for check in verdict.checks if not check.passed}


def comparable(verdict: Verdict) -> Check:
    (check,) = [check for check in verdict.checks if check.code == COMPARABLE]
    return check


def with_contract(uri: Path, **audio: object) -> Path:
    """Write the contract of a model without a network."""

    folder = uri / "Format-Serving" / EXTRA_ASSETS
    folder.mkdir(parents=True)
    (folder / AUDIO_SPEC_FILE).write_text(ORIGINAL_AUDIO.replace(**audio).to_json())
    (folder / LABELS_FILE).write_text(json.dumps(EMOTIONS))
    (folder.parent / "saved_model.pb").touch()  # without it the model counts as deleted
    return uri


@pytest.fixture(scope="module")
def protocol(local_run) -> Protocol:
    """Splits of the run, with ids of the speakers."""
    return RunSummary.from_json((local_run.root / "summary.json").read_text()).protocol


@pytest.fixture(scope="module")
def artifacts(local_run) -> Path:
    return local_run.root / "artifacts"


@pytest.fixture(scope="module")
def trained(artifacts) -> Path:
    return min((artifacts / "Trainer" / "model").iterdir())


@pytest.fixture(scope="module")
def export(artifacts, trained, tmp_path_factory) -> Callable[..., Path]:
    """Export a model of the run's family whose last layer has the given bias and zero weights."""
    import tensorflow_transform as tft

    from modules.export import signatures
    from modules.training import trainer
    from pipeline.config import PipelineConfig

    def make(bias: list[float]) -> Path:
        spec = load_contract(trained / "Format-Serving").audio_spec
        model = trainer.build_model(PipelineConfig().training, spec, classes=len(EMOTIONS))
        kernel, _ = model.layers[-1].get_weights()
        model.layers[-1].set_weights([np.zeros_like(kernel), np.array(bias)])
        transform = tft.TFTransformOutput(str(min((artifacts / "Transform" / "transform_graph").iterdir())))
        uri = tmp_path_factory.mktemp("model")
        signatures.export(model, transform, spec, str(uri / "Format-Serving"))
        return uri

    return make


@pytest.fixture
def evaluate(artifacts, tmp_path) -> Callable[..., tuple[types.Artifact, Verdict]]:
    """Run the executor as the pipeline does; return the blessing and the verdict."""

    def run(
        candidate: Path,
        baseline: Path | None = None,
        gate: GateSettings = LENIENT,
        trained_on: Protocol | None = None,
    ):
        examples = artifact(standard_artifacts.Examples, min((artifacts / "AudioExampleGen" / "examples").iterdir()))
        examples.split_names = json.dumps(["train", "eval", "test"])
        inputs = {"examples": [examples], "model": [artifact(standard_artifacts.Model, candidate, 1)]}
        inputs["baseline_model"] = [artifact(standard_artifacts.Model, baseline, 2)] if baseline else []
        if trained_on:
            (tmp_path / "theirs").mkdir(exist_ok=True)
            (tmp_path / "theirs" / PROTOCOL_FILE).write_text(trained_on.model_dump_json())
            inputs["baseline_blessing"] = [artifact(standard_artifacts.ModelBlessing, tmp_path / "theirs")]
        blessing = artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
        outputs = {
            "blessing": [blessing],
            "evaluation": [artifact(standard_artifacts.ModelEvaluation, tmp_path / "evaluation")],
        }
        properties = {
            "eval_config": proto_utils.proto_to_json(eval_config.eval_config(gate, emotions=len(EMOTIONS))),
            "example_splits": json_utils.dumps([eval_config.SPLIT]),
            "module_path": extractors.__name__,
            "gate": gate.to_json(),
            "serving_dir": str(tmp_path / "serving"),
        }
        Executor(Executor.Context(beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(tmp_path))).Do(
            inputs, outputs, properties
        )
        return blessing, Verdict.model_validate_json((tmp_path / "blessing" / "verdict.json").read_text())

    return run


def test_non_finite_predictions_are_rejected(export, evaluate, tmp_path):
    blessing, verdict = evaluate(export([np.nan] * 7), gate=LENIENT.replace(override="Ada: hurry"))
    assert not verdict.blessed
    assert FINITE in failed(verdict)
    assert blessing.get_int_custom_property("blessed") == 0
    assert [path.name for path in (tmp_path / "blessing").glob("*BLESSED")] == ["NOT_BLESSED"]
    assert not blessing.has_custom_property(OVERRIDE_PROPERTY)


def test_a_constant_model_is_rejected_without_override(export, evaluate, tmp_path):
    constant = export([5.0, 0, 0, 0, 0, 0, 0])
    blessing, verdict = evaluate(constant)
    assert failed(verdict) == GUESSES
    assert blessing.get_int_custom_property("blessed") == 0
    blessing, verdict = evaluate(constant, gate=LENIENT.replace(override="Ada: a demonstration"))
    assert verdict.blessed
    assert verdict.override == "Ada: a demonstration"
    assert blessing.get_string_custom_property(OVERRIDE_PROPERTY) == "Ada: a demonstration"
    assert blessing.get_int_custom_property("blessed") == 1
    assert [path.name for path in (tmp_path / "blessing").glob("*BLESSED")] == ["BLESSED"]


def test_a_baseline_on_another_audio_spec_is_not_used(trained, evaluate, tmp_path):
    other = with_contract(tmp_path / "other", hop_samples=256)
    blessing, verdict = evaluate(trained, baseline=other)
    assert comparable(verdict).passed
    assert load_contract(other / "Format-Serving").audio_spec.fingerprint in comparable(verdict).text
    assert verdict.blessed
    assert blessing.get_int_custom_property("current_model_id") == 1


def test_tfma_and_the_intervals_agree_on_every_slice(artifacts):
    folder = min((artifacts / "GatedEvaluator" / "evaluation").iterdir())
    by_tfma = read_uars(str(folder))
    measured = Evaluation.model_validate_json((folder / METRICS_FILE).read_text())
    assert by_tfma.pop(()) == pytest.approx(measured.metric("uar").value, abs=1e-6)
    by_gate = {((part.dimension, part.value),): part.metric("uar").value for part in measured.slices}
    assert {dimension for ((dimension, _),) in by_gate} == {*eval_config.SLICES}
    assert by_tfma == pytest.approx(by_gate, abs=1e-6)


def test_a_blessing_has_hashed_speakers_of_each_split(artifacts, protocol):
    assert protocol_of_blessing(artifacts) == protocol.hashed() != protocol
    assert len(protocol.training_speakers) > len(protocol.speakers["test"]) > 2


def test_a_pushed_model_names_its_training_examples(local_run):
    version = max((local_run.root / "serving").iterdir())
    examples = Path((version / EXTRA_ASSETS / EXAMPLES_FILE).read_text())
    assert (examples / "ingest.json").exists()
    assert local_run.root in examples.parents


def test_a_pushed_model_does_not_name_speakers(local_run, protocol):
    speakers = [speaker.encode() for ids in protocol.speakers.values() for speaker in ids]
    pushed = [path for path in (local_run.root / "serving").rglob("*") if path.is_file()]
    assert PROTOCOL_FILE in {path.name for path in pushed}
    assert [path for path in pushed for speaker in speakers if speaker in path.read_bytes()] == []


def test_a_baseline_is_compared_on_unseen_speakers(protocol, trained, export, evaluate, tmp_path):
    """TFMA and the gate reject a candidate that always predicts one emotion and has a better baseline."""
    constant, test = export([5.0, 0, 0, 0, 0, 0, 0]), protocol.speakers["test"]
    _, verdict = evaluate(constant, trained, STRICT, protocol.hashed())
    assert failed(verdict) >= {TFMA, UAR_LOSS}
    assert comparable(verdict).value == len(test)
    loss, tfma = (next(check for check in verdict.checks if check.code == code) for code in (UAR_LOSS, TFMA))
    assert f"changed by {loss.value:+.3f}; allowed: {-STRICT.max_uar_loss:+.3f}" in tfma.text

    seen_one = Protocol(kind="speaker", speakers={"train": test[:1], "eval": (), "test": ()})
    _, verdict = evaluate(constant, trained, STRICT, seen_one.hashed())
    assert UAR_LOSS in failed(verdict)
    assert TFMA not in failed(verdict), "TFMA's threshold of the change would include the seen speaker"
    assert comparable(verdict).value == len(test) - 1
    comparison = Baseline.model_validate_json((tmp_path / "evaluation" / COMPARISON_FILE).read_text())
    assert comparison.speakers == len(test) - 1
    assert comparison.excluded_speakers == test[:1]

    (tmp_path / "evaluation" / COMPARISON_FILE).unlink()
    seen_others = Protocol(kind="speaker", speakers={"train": test[1:], "eval": (), "test": ()})
    _, verdict = evaluate(constant, trained, STRICT, seen_others.hashed())
    assert failed(verdict) == GUESSES, "the baseline is not compared"
    assert comparable(verdict).value == 1
    assert not (tmp_path / "evaluation" / COMPARISON_FILE).exists()


def test_a_deleted_baseline_is_read_from_its_pushed_version(artifacts, protocol, trained, export, evaluate, tmp_path):
    """A bucket's lifecycle rule deletes files of a model that ML Metadata still names."""
    baseline = tmp_path / "old" / "model"
    shutil.copytree(trained, baseline)
    cards = tmp_path / "old" / PROTOCOL_FILE
    cards.write_text(protocol_of_blessing(artifacts).model_dump_json())
    push(str(baseline / "Format-Serving"), str(tmp_path / "serving"), extra_assets=[str(cards)])
    constant = export([5.0, 0, 0, 0, 0, 0, 0])
    for gone in (baseline / "Format-Serving" / "variables", baseline):
        shutil.rmtree(gone)
        _, verdict = evaluate(constant, baseline, STRICT)
        assert failed(verdict) >= {TFMA, UAR_LOSS}
        assert comparable(verdict).value == len(protocol.speakers["test"]), "the speakers were pushed with the model"
        assert (tmp_path / "evaluation" / COMPARISON_FILE).exists()


def test_a_missing_baseline_rejects_without_override(trained, evaluate, tmp_path):
    gone = tmp_path / "gone"
    _, verdict = evaluate(trained, gone)
    assert failed(verdict) == {COMPARABLE}
    assert f"{gone}/Format-Serving" in comparable(verdict).text
    _, verdict = evaluate(trained, gone, LENIENT.replace(override="Ada: the first model was never pushed"))
    assert verdict.blessed


def test_only_equal_contracts_are_comparable(tmp_path):
    ours, same, other = (
        str(with_contract(tmp_path / name, **audio) / "Format-Serving")
        for name, audio in (("a", {}), ("b", {}), ("c", {"n_fft": 1024}))
    )
    assert why_incomparable(ours, same) is None
    assert load_contract(other).audio_spec.fingerprint in why_incomparable(ours, other)
    assert why_incomparable(ours, str(tmp_path)) is not None
    (Path(same) / EXTRA_ASSETS / LABELS_FILE).write_text('["cat", "dog"]')
    assert "cat, dog" in why_incomparable(ours, same)
