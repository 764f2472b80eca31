"""TFMA's metrics with the pipeline's configuration, compared with scikit-learn's on the same predictions."""

import numpy as np
import pandas as pd
import pytest
import tensorflow_model_analysis as tfma
from sklearn import metrics as sklearn_metrics

from modules.data import examples
from modules.data.labels import EMOTIONS
from modules.evaluation.gate import GateSettings
from pipeline import eval_config as evaluation

CLASSES = range(len(EMOTIONS))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """300 predictions, some of them confident and wrong."""
    rng = np.random.default_rng(2)
    labels = rng.choice(len(EMOTIONS), size=300, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    probabilities = rng.dirichlet(np.full(len(EMOTIONS), 0.4), size=300) + 0.5 * np.eye(len(EMOTIONS))[labels]
    rows = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    return pd.DataFrame(
        {
            examples.EMOTION_ID: labels,
            "probabilities": list(rows / rows.sum(axis=1, keepdims=True)),
            examples.CORPUS: rng.choice(["toy", "other"], size=300),
            examples.SEX: rng.choice(["female", "male"], size=300),
            examples.INTENSITY: "normal",
            examples.SPEAKER: rng.choice(["toy-01", "toy-02", "toy-03"], size=300),
            examples.EMOTION: [EMOTIONS[label] for label in labels],
            "length": rng.choice(["0 to 2 s", "2 to 4 s"], size=300),
        }
    )


@pytest.fixture(scope="module")
def tfma_values(frame) -> dict[tuple, dict]:
    """TFMA's metrics by slice and name; those of single classes by name and class."""
    config = evaluation.eval_config(GateSettings(), emotions=len(EMOTIONS))
    config.model_specs[0].signature_name = ""
    config.metrics_specs[0].metrics[0].ClearField("per_slice_thresholds")  # they need a baseline
    result = tfma.analyze_raw_data(frame, config)
    values: dict[tuple, dict] = {}
    for where, outputs in result.slicing_metrics:
        for sub_key, metrics in outputs[""].items():
            for name, value in metrics.items():
                values.setdefault(where, {})[(name, sub_key) if sub_key else name] = value.get("doubleValue", value)
    return values


def expected(part: pd.DataFrame) -> dict[str, float]:
    labels, rows = part[examples.EMOTION_ID], np.stack(part["probabilities"])
    decided = rows.argmax(axis=1)
    macro = {"labels": np.unique(labels), "average": "macro", "zero_division": 0}
    confidence, right = rows.max(axis=1), decided == labels
    bins = np.ceil(confidence * 10).astype(int)
    gaps = [abs(np.sum(right[bins == each]) - np.sum(confidence[bins == each])) for each in range(11)]
    areas = [sklearn_metrics.roc_auc_score(labels == each, rows[:, each]) for each in np.unique(labels)]
    return {
        "sparse_categorical_accuracy": sklearn_metrics.accuracy_score(labels, decided),
        "sparse_categorical_crossentropy": sklearn_metrics.log_loss(labels, rows, labels=CLASSES),
        "unweighted_average_recall": sklearn_metrics.balanced_accuracy_score(labels, decided),
        "macro_precision": sklearn_metrics.precision_score(labels, decided, **macro),
        "macro_f1": sklearn_metrics.f1_score(labels, decided, **macro),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, decided),
        "ece": sum(gaps) / len(part),
        "auc": float(np.mean(areas)),
    }


@pytest.mark.parametrize("column", [None, examples.CORPUS, examples.SEX, examples.SPEAKER, "length"])
def test_every_metric_agrees_with_scikit_learn(frame, tfma_values, column):
    parts = {(): frame} if column is None else {((column, str(value)),): part for value, part in frame.groupby(column)}
    for where, part in parts.items():
        for name, value in expected(part).items():
            assert tfma_values[where][name] == pytest.approx(value, abs=1e-6), (where, name)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_every_class_agrees_with_scikit_learn(frame, tfma_values, name):
    decided = np.stack(frame["probabilities"]).argmax(axis=1)
    score = getattr(sklearn_metrics, f"{name}_score")
    expected_values = score(frame[examples.EMOTION_ID], decided, labels=CLASSES, average=None, zero_division=0)
    seen = [tfma_values[()][(f"class_{name}", f"classId:{index}")] for index in CLASSES]
    assert seen == pytest.approx(expected_values, abs=1e-6)


def test_the_confusion_matrix_agrees_with_scikit_learn(frame, tfma_values):
    (matrix,) = tfma_values[()]["multi_class_confusion_matrix_at_thresholds"]["multiClassConfusionMatrixAtThresholds"][
        "matrices"
    ]
    dense = np.zeros((len(EMOTIONS), len(EMOTIONS)))
    for entry in matrix["entries"]:
        dense[entry.get("actualClassId", 0), entry.get("predictedClassId", 0)] = entry["numWeightedExamples"]
    decided = np.stack(frame["probabilities"]).argmax(axis=1)
    assert (dense == sklearn_metrics.confusion_matrix(frame[examples.EMOTION_ID], decided)).all()


def test_every_slice_is_computed(tfma_values):
    columns = {where[0][0] for where in tfma_values if where}
    assert columns == {"corpus", "sex", "intensity", "speaker", "emotion", "length"}
