"""Configuration of TFMA: the metrics that it computes on ``test``, the slices, and the thresholds of its blessing."""

from tensorflow_model_analysis.proto import config_pb2

from components.gated_evaluator import confusion_metrics as metrics
from components.gated_evaluator import metrics as prediction_metrics
from components.gated_evaluator.extractors import LENGTH
from modules.data import examples
from modules.evaluation.gate import GateSettings, floor_above

SPLIT = "test"
SLICES = (examples.CORPUS, examples.SEX, examples.INTENSITY, examples.SPEAKER, examples.EMOTION, LENGTH)


def eval_config(gate: GateSettings, *, emotions: int) -> config_pb2.EvalConfig:
    """Return metrics, slices and thresholds. TFMA applies change thresholds only if there is a blessed baseline.

    TFMA's own confidence intervals stay off: they resample clips, and a speaker's clips are alike, so they would be
    too narrow. The report's intervals resample speakers.

    Args:
        gate: Settings of the gate, for the thresholds.
        emotions: Number of emotions.
    """
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="examples", label_key=examples.EMOTION_ID, prediction_key="probabilities"
            )
        ],
        slicing_specs=[config_pb2.SlicingSpec(), *(config_pb2.SlicingSpec(feature_keys=[key]) for key in SLICES)],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[_uar(gate, emotions), *_descriptive(emotions)])],
    )


def _uar(gate: GateSettings, emotions: int) -> config_pb2.MetricConfig:
    uar = metrics.metric_config(emotions)
    chance = 1 / emotions  # the gate itself counts the emotions of the test split, and is stricter
    floor = floor_above(chance, gate.min_adjusted_uar)
    slice_floor = floor_above(chance, gate.min_slice_adjusted_uar)
    # Not `uar.threshold`: TFMA applies that to every slice, each single emotion included.
    uar.per_slice_thresholds.add(
        slicing_specs=[config_pb2.SlicingSpec()],
        threshold=config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": floor}),
            change_threshold=config_pb2.GenericChangeThreshold(
                direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -gate.max_uar_loss}
            ),
        ),
    )
    for key in gate.slices:
        uar.per_slice_thresholds.add(
            slicing_specs=[config_pb2.SlicingSpec(feature_keys=[key])],
            threshold=config_pb2.MetricThreshold(
                value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": slice_floor})
            ),
        )
    return uar


def _descriptive(emotions: int) -> list[config_pb2.MetricConfig]:
    """Return metrics without thresholds, TFMA's own wherever it has one."""
    return [
        config_pb2.MetricConfig(class_name="ExampleCount"),
        config_pb2.MetricConfig(class_name="SparseCategoricalAccuracy"),
        config_pb2.MetricConfig(class_name="SparseCategoricalCrossentropy"),
        config_pb2.MetricConfig(class_name="MultiClassConfusionMatrixAtThresholds", config='{"thresholds": [0.0]}'),
        *metrics.score_configs(emotions),
        *prediction_metrics.score_configs(),
    ]
