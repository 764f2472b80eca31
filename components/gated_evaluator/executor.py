"""Executor of the GatedEvaluator."""

import copy
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, json_utils, path_utils

from components.artifacts import COMPARISON_FILE, METRICS_FILE, VERDICT_FILE, Artifacts, Properties
from components.atomic_pusher.executor import find_pushed
from components.audio_example_gen import ingest_summary
from components.gated_evaluator.tfma_results import read_uars, read_violations
from modules.data import examples as example_keys
from modules.data.predictions import SplitExamples, predict, read_examples
from modules.evaluation import evaluate, gate, predictions_table
from modules.evaluation.acceptance.measure import SEX, of_predictions
from modules.evaluation.errors import wrong_predictions
from modules.evaluation.intervals import Predictions
from modules.evaluation.predictions_table import PREDICTIONS_FILE
from modules.export.contract import EXAMPLES_FILE, EXTRA_ASSETS, MODEL_FILE, PROTOCOL_FILE, Contract, load_contract
from modules.reporting import model_card
from modules.reporting.summary import Acceptance, Baseline, Evaluation, Protocol, Verdict

GATE_KEY = "gate"
BASELINE_BLESSING_KEY = "baseline_blessing"
SERVING_DIR_KEY = "serving_dir"
OVERRIDE_PROPERTY = "gate_override"


_SAVED_MODEL = "saved_model.pb"

# Folder in the evaluation for the copy of a pushed baseline, in the layout of a Model artifact.
_BASELINE = "baseline"


class Executor(tfx_evaluator.Executor):
    """TFX's evaluation and blessing, followed by the gate's."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Evaluate the candidate, apply the gate, and write predictions, metrics, verdict and blessing.

        Args:
            input_dict: Examples, candidate, and the baseline with its blessing if there is one.
            output_dict: Evaluation and blessing.
            exec_properties: Those of TFX's Evaluator, settings of the gate, and folder of pushed versions.
        """
        settings = gate.GateSettings.from_json(exec_properties[GATE_KEY])
        candidate = _model_dir(input_dict[standard_component_specs.MODEL_KEY])
        examples_uri = artifact_utils.get_single_uri(input_dict[standard_component_specs.EXAMPLES_KEY])
        protocol = ingest_summary.protocol(examples_uri)
        evaluation_uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.EVALUATION_KEY])
        input_dict = restore_baseline(input_dict, exec_properties[SERVING_DIR_KEY], evaluation_uri)
        baseline = _BaselineModel.of(input_dict, candidate, protocol)
        if baseline.missing or baseline.incomparable or baseline.training_speakers:
            # TFMA cannot score an incompatible baseline, and its change threshold would include speakers that the
            # baseline was trained on.
            input_dict = {**input_dict, standard_component_specs.BASELINE_MODEL_KEY: []}
        super().Do(input_dict, output_dict, exec_properties)

        (split_name,) = json_utils.loads(exec_properties[standard_component_specs.EXAMPLE_SPLITS_KEY])
        split = read_examples(
            artifact_utils.get_split_uri(input_dict[standard_component_specs.EXAMPLES_KEY], split_name)
        )
        blessing = artifact_utils.get_single_instance(output_dict[standard_component_specs.BLESSING_KEY])
        probabilities = predict(candidate, split)
        contract = load_contract(candidate)
        emotions = contract.labels
        table = predictions_table.to_csv(
            split.column, split.columns[example_keys.EMOTION_ID], probabilities, classes=emotions
        )
        io_utils.write_string_file(os.path.join(evaluation_uri, PREDICTIONS_FILE), table)
        evaluation, comparison = _measure(probabilities, contract, baseline, split, split_name)
        evidence = gate.Evidence(
            evaluation=evaluation,
            uars=read_uars(evaluation_uri),
            tfma_passed=blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1,
            tfma_violations=read_violations(evaluation_uri),
            baseline=comparison,
            missing=baseline.missing,
            incomparable=baseline.incomparable,
            baseline_speakers=baseline.training_speakers,
        )
        verdict = gate.decide(evidence, settings)
        _write(evaluation_uri, METRICS_FILE, evaluation)
        if used_comparison := gate.compared(evidence, settings):
            _write(evaluation_uri, COMPARISON_FILE, used_comparison)
        record(verdict, blessing)
        _write(blessing.uri, PROTOCOL_FILE, protocol.hashed())
        io_utils.write_string_file(os.path.join(blessing.uri, EXAMPLES_FILE), examples_uri)
        _write_card(candidate, examples_uri, evaluation, verdict, blessing.uri)


class _BaselineModel(NamedTuple):
    """The blessed baseline, as far as the candidate can be compared with it.

    Attributes:
        name: Name in reports; None without a comparable baseline.
        model_dir: Folder of its SavedModel.
        missing: See :class:`modules.evaluation.gate.Evidence`.
        incomparable: The same.
        training_speakers: ``baseline_speakers`` of the same class.
    """

    name: str | None = None
    model_dir: str = ""
    missing: str | None = None
    incomparable: str | None = None
    training_speakers: tuple[str, ...] | None = ()

    @classmethod
    def of(cls, input_dict: Artifacts, candidate: str, protocol: Protocol) -> "_BaselineModel":
        """Read the baseline among the inputs."""
        models = input_dict.get(standard_component_specs.BASELINE_MODEL_KEY)
        if not models:
            return cls()
        model_dir = _model_dir(models)
        if not fileio.exists(os.path.join(model_dir, _SAVED_MODEL)):
            return cls(missing=model_dir)
        if incomparable := why_incomparable(candidate, model_dir):
            return cls(incomparable=incomparable)
        blessings = input_dict.get(BASELINE_BLESSING_KEY) or []
        theirs = _read_protocol([*(blessing.uri for blessing in blessings), os.path.join(model_dir, EXTRA_ASSETS)])
        speakers = gate.baseline_only_speakers(protocol, theirs) if theirs else None
        return cls(name=f"model {models[0].id}", model_dir=model_dir, training_speakers=speakers)


def restore_baseline(input_dict: Artifacts, serving_dir: str, evaluation_uri: str) -> Artifacts:
    """Replace the baseline by a copy of the version that was pushed from it, if there is one.

    Artifacts of runs are deleted after some months, file by file, while ML Metadata still names the newest blessed
    model. Pushed versions are kept.

    Args:
        input_dict: Inputs of the evaluation.
        serving_dir: Folder of pushed versions.
        evaluation_uri: Folder of the evaluation, for the copy.

    Returns:
        The inputs, with the baseline replaced.
    """
    models = input_dict.get(standard_component_specs.BASELINE_MODEL_KEY)
    pushed = find_pushed(_model_dir(models), serving_dir) if models else None
    if not models or pushed is None:
        return input_dict
    restored = copy.deepcopy(models[0])
    restored.uri = os.path.join(evaluation_uri, _BASELINE)
    io_utils.copy_dir(pushed, path_utils.serving_model_dir(restored.uri))
    return {**input_dict, standard_component_specs.BASELINE_MODEL_KEY: [restored]}


def _read_protocol(folders: Sequence[str]) -> Protocol | None:
    """Return the speakers of a blessed model's splits from the first folder that has them; None without."""
    paths = [os.path.join(folder, PROTOCOL_FILE) for folder in folders]
    existing = [path for path in paths if fileio.exists(path)]
    return Protocol.model_validate_json(io_utils.read_string_file(existing[0])) if existing else None


def why_incomparable(candidate_dir: str, baseline_dir: str) -> str | None:
    """Return why a baseline cannot predict the candidate's examples; None if it can.

    Args:
        candidate_dir: Folder of the candidate's SavedModel.
        baseline_dir: Folder of the baseline's SavedModel.

    Raises:
        FileNotFoundError: The candidate was not exported by this project.
    """
    theirs = _contract_of(baseline_dir)
    if theirs is None:
        return "since it was not exported by this project"
    ours = load_contract(candidate_dir)
    spec, their_spec = ours.audio_spec.fingerprint, theirs.audio_spec.fingerprint
    if spec != their_spec:
        return f"since it was trained on audio spec {their_spec} and they have {spec}"
    return None if ours.labels == theirs.labels else f"since it has other emotions: {', '.join(theirs.labels)}"


def record(verdict: Verdict, blessing: types.Artifact) -> None:
    """Write the gate's decision into the blessing, in the files and properties that Pusher and resolvers read.

    Args:
        verdict: Decision and checks of the gate.
        blessing: Artifact with TFMA's blessing.
    """
    for name in (constants.BLESSED_FILE_NAME, constants.NOT_BLESSED_FILE_NAME):
        path = os.path.join(blessing.uri, name)
        if fileio.exists(path):
            fileio.remove(path)
    name = constants.BLESSED_FILE_NAME if verdict.blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    _write(blessing.uri, VERDICT_FILE, verdict)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(verdict.blessed))
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, " ".join(verdict.reasons))
    if verdict.override:
        blessing.set_string_custom_property(OVERRIDE_PROPERTY, verdict.override)


def _measure(
    probabilities: np.ndarray,
    contract: Contract,
    baseline: _BaselineModel,
    split: SplitExamples,
    split_name: str,
) -> tuple[Evaluation, Baseline | None]:
    """Return the candidate's metrics, and its comparison with the baseline without the latter's training speakers."""
    labels, speakers = split.columns[example_keys.EMOTION_ID], split.column(example_keys.SPEAKER)
    slices = evaluate.clip_slices(split.column, split.columns[example_keys.DURATION_SEC])
    evaluation = evaluate.evaluate(
        labels,
        probabilities,
        speakers,
        classes=contract.labels,
        slices=slices,
        min_confidence=contract.limits.min_confidence,
        split=split_name,
    ).model_copy(
        update={
            "errors": wrong_predictions(split.column, labels, probabilities, classes=contract.labels),
            "acceptance": _acceptance(labels, probabilities, split, contract.labels),
        }
    )
    excluded = baseline.training_speakers or ()
    unseen = ~np.isin(speakers, excluded)
    if baseline.name is None or not unseen.any() or not np.isfinite(probabilities).all():
        return evaluation, None
    ours, theirs = (
        Predictions.of(labels, rows, speakers).take(unseen)
        for rows in (probabilities, predict(baseline.model_dir, split))
    )
    comparison = evaluate.compare(ours, theirs, name=baseline.name, split=split_name)
    return evaluation, comparison.model_copy(update={"excluded_speakers": excluded})


def _acceptance(
    labels: np.ndarray, probabilities: np.ndarray, split: SplitExamples, emotions: Sequence[str]
) -> Acceptance | None:
    """Return the acceptance tests that need no changed recordings; None for non-finite predictions."""
    if not np.isfinite(probabilities).all():
        return None
    predictions = Predictions.of(labels, probabilities, split.column(example_keys.SPEAKER))
    return of_predictions(predictions, emotions, {SEX: split.column(example_keys.SEX)})


def _write_card(model_dir: str, examples_uri: str, evaluation: Evaluation, verdict: Verdict, folder: str) -> None:
    """Write the model card into the blessing, from which the Pusher copies it."""
    card = model_card.describe(
        name="speech emotion",
        spec=load_contract(model_dir).audio_spec,
        data=ingest_summary.data(examples_uri),
        protocol=ingest_summary.protocol(examples_uri),
        evaluation=evaluation,
        verdict=verdict,
        network=model_card.Network(**json.loads(_read_asset(model_dir, MODEL_FILE) or "{}")),
    )
    _write(folder, model_card.JSON_FILE, card)
    io_utils.write_string_file(os.path.join(folder, model_card.MARKDOWN_FILE), model_card.to_markdown(card))


def _write(folder: str, name: str, section: BaseModel) -> None:
    io_utils.write_string_file(os.path.join(folder, name), section.model_dump_json(indent=2))


def _contract_of(model_dir: str) -> Contract | None:
    """Return the contract of a model; None if this project did not export it."""
    try:
        return load_contract(model_dir)
    except FileNotFoundError:
        return None


def _read_asset(model_dir: str, name: str) -> str | None:
    path = os.path.join(model_dir, EXTRA_ASSETS, name)
    return io_utils.read_string_file(path) if fileio.exists(path) else None


def _model_dir(models: list[types.Artifact]) -> str:
    model = artifact_utils.get_single_instance(models)
    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
