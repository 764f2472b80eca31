"""The nodes of the pipeline and their wiring, which every runner shares.

The stages follow one another: data, drift, training, evaluation and serving. Each returns its nodes in the order of the
run, and the channels that later stages read.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_metadata.proto import metadata_store_pb2
from tfx.components import ExampleValidator, Pusher, StatisticsGen, Trainer, Transform, Tuner
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration import data_types
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2, tuner_pb2
from tfx.types import BaseChannel, Channel, standard_artifacts

import schema
from components.anomaly_gate.component import AnomalyGate
from components.atomic_pusher.component import AtomicPusher
from components.audio_example_gen.component import AudioExampleGen
from components.baseline_resolver.strategy import CANDIDATE_KEY, LatestOtherBlessedModel
from components.curated_schema.component import CuratedSchema
from components.drift_monitor import strategy as drift_strategy
from components.drift_monitor.component import DriftMonitor
from components.gated_evaluator import extractors
from components.gated_evaluator.component import GatedEvaluator
from components.resumable_tuner.component import ResumableTuner
from components.run_report.component import RunReport
from components.run_report.experiments import ExperimentSettings
from components.serving_validator.component import ServingValidator
from modules.data import preprocessing
from modules.training import trainer as training_module
from modules.training import tuner as tuning_module
from pipeline import eval_config
from pipeline.config import PipelineConfig

_PREPROCESSING_FN = f"{preprocessing.__name__}.{preprocessing.preprocessing_fn.__name__}"
_RUN_FN = f"{training_module.__name__}.{training_module.run_fn.__name__}"
_TUNER_FN = f"{tuning_module.__name__}.{tuning_module.tuner_fn.__name__}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """Everything that differs between the runners. The ids of the nodes are the same for all.

    Attributes:
        input_base: Folder of recordings.
        pipeline_root: Folder of artifacts.
        serving_dir: Folder of pushed models, with a folder for each version.
        beam_pipeline_args: Arguments of every component that runs on Beam.
        metadata: Connection to ML Metadata; None where the platform has its own.
        span_range: Run parameter that selects the span to read; without it the newest span is read.
        trainer: Trainer class; it trains in its own process or in a job that it starts.
        trainer_options: Entries of the Trainer's ``custom_config`` in addition to those that ``run_fn`` reads.
        tuner: Tuner class.
        tuner_options: Entries of the Tuner's ``custom_config`` in addition to those that ``tuner_fn`` reads.
        parallel_trials: Number of machines that tune at once; more than one needs a tuner that starts jobs.
        pusher: Pusher class.
        pusher_options: Entries of the Pusher's ``custom_config`` in addition to the section ``push``.
        can_resolve_examples: Whether the platform runs the resolver strategies of this project. Without them the
            baseline comes from TFX's own strategy, and the reference of drift from the pushed models.
        experiment: Experiment that runs are logged to in addition to ML Metadata.
    """

    input_base: str
    pipeline_root: str
    serving_dir: str
    beam_pipeline_args: tuple[str, ...]
    metadata: metadata_store_pb2.ConnectionConfig | None = None
    span_range: data_types.RuntimeParameter | None = None
    trainer: type[Trainer] = Trainer
    trainer_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tuner: type[Tuner] = ResumableTuner
    tuner_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parallel_trials: int = 1
    pusher: type[Pusher] = AtomicPusher
    pusher_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    can_resolve_examples: bool = True
    experiment: ExperimentSettings | None = None


class _Data(NamedTuple):
    """Ingested examples and their schema; training waits for the gate."""

    nodes: tuple[BaseNode, ...]
    examples: BaseChannel
    schema: BaseChannel
    gate: BaseNode


class _Drift(NamedTuple):
    """Comparison of the examples with earlier ones; training waits for the monitor. Empty without ``drift.enabled``."""

    nodes: tuple[BaseNode, ...] = ()
    monitor: BaseNode | None = None
    report: BaseChannel | None = None


class _Training(NamedTuple):
    """The candidate model."""

    nodes: tuple[BaseNode, ...]
    model: BaseChannel
    model_run: BaseChannel
    tuner_results: BaseChannel | None


class _Evaluation(NamedTuple):
    """Metrics of the candidate, and the gate's blessing."""

    nodes: tuple[BaseNode, ...]
    evaluation: BaseChannel
    blessing: BaseChannel


class _Serving(NamedTuple):
    """The pushed model, and the blessing of the serving trial."""

    nodes: tuple[BaseNode, ...]
    infra_blessing: BaseChannel
    pushed_model: BaseChannel


def create_pipeline(config: PipelineConfig, runner: RunnerSettings) -> tfx_pipeline.Pipeline:
    """Return the whole DAG, from recordings to a pushed model and the report of the run.

    Args:
        config: Configuration of the run.
        runner: Settings of the runner that executes or compiles the DAG.
    """
    data = _data_stage(config, runner)
    drift = _drift_stage(config, runner, data)
    training = _training_stage(config, runner, data, drift)
    evaluation = _evaluation_stage(config, runner, data, training)
    serving = _serving_stage(config, runner, data, training, evaluation)
    report = RunReport(
        config=config.to_dict(),
        examples=data.examples,
        model_run=training.model_run,
        evaluation=evaluation.evaluation,
        blessing=evaluation.blessing,
        infra_blessing=serving.infra_blessing,
        pushed_model=serving.pushed_model,
        tuner_results=training.tuner_results,
        drift=drift.report,
        experiment=runner.experiment,
    )
    return tfx_pipeline.Pipeline(
        pipeline_name=config.name,
        pipeline_root=runner.pipeline_root,
        components=[*data.nodes, *drift.nodes, *training.nodes, *evaluation.nodes, *serving.nodes, report],
        enable_cache=config.cache,
        metadata_connection_config=runner.metadata,
        beam_pipeline_args=list(runner.beam_pipeline_args),
    )


def _data_stage(config: PipelineConfig, runner: RunnerSettings) -> _Data:
    """Ingest the recordings, and check the examples against the schema."""
    example_gen = AudioExampleGen(
        input_base=runner.input_base, settings=config.ingest_settings, range_config=runner.span_range
    )
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(examples=examples)
    statistics = statistics_gen.outputs["statistics"]
    curated_schema = CuratedSchema(schema.load(config.audio), examples=examples)
    schema_channel = curated_schema.outputs["schema"]
    example_validator = ExampleValidator(statistics=statistics, schema=schema_channel)
    anomaly_gate = AnomalyGate(
        anomalies=example_validator.outputs["anomalies"], statistics=statistics, audio_spec=config.audio.fingerprint
    )
    return _Data(
        (example_gen, statistics_gen, curated_schema, example_validator, anomaly_gate),
        examples=examples,
        schema=schema_channel,
        gate=anomaly_gate,
    )


def _drift_stage(config: PipelineConfig, runner: RunnerSettings, data: _Data) -> _Drift:
    """Compare the examples with ``drift.reference`` or with the examples of the baseline, if drift is monitored."""
    if not config.drift.enabled:
        return _Drift()
    resolver = None
    if runner.can_resolve_examples and not config.drift.reference:
        resolver = _drift_reference(data.examples)
    drift_monitor = DriftMonitor(
        examples=data.examples,
        schema=data.schema,
        settings=config.drift,
        reference=resolver.outputs[drift_strategy.EXAMPLES_KEY] if resolver else None,
        models=None if runner.can_resolve_examples else runner.serving_dir,
    )
    nodes = (resolver, drift_monitor) if resolver else (drift_monitor,)
    return _Drift(nodes, monitor=drift_monitor, report=drift_monitor.outputs["drift"])


def _drift_reference(examples: BaseChannel) -> Resolver:
    return Resolver(
        strategy_class=drift_strategy.ExamplesOfBaseline,
        **{
            drift_strategy.EXAMPLES_KEY: Channel(type=standard_artifacts.Examples),
            drift_strategy.MODEL_KEY: Channel(type=standard_artifacts.Model),
            drift_strategy.BLESSING_KEY: Channel(type=standard_artifacts.ModelBlessing),
            drift_strategy.CURRENT_KEY: examples,
        },
    ).with_id("DriftReferenceResolver")


def _training_stage(config: PipelineConfig, runner: RunnerSettings, data: _Data, drift: _Drift) -> _Training:
    """Transform the examples once every check passed, search hyperparameters if enabled, and train the candidate."""
    transform = Transform(
        examples=data.examples,
        schema=data.schema,
        preprocessing_fn=_PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(analyze=["train"]),
        materialize=False,  # Trainer and Tuner normalise what they read, instead of a second copy of all features
        disable_statistics=True,
        custom_config=preprocessing.transform_config(config.audio, config.transform.normalisation),
    )
    transform.add_upstream_nodes([data.gate, drift.monitor] if drift.monitor else [data.gate])
    tuner = _tuner(config, runner, data, transform) if config.tuner.enabled else None
    trainer = runner.trainer(
        run_fn=_RUN_FN,
        examples=data.examples,
        transform_graph=transform.outputs["transform_graph"],
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        custom_config=training_module.trainer_config(config.audio, config.training, config.limits)
        | dict(runner.trainer_options),
    ).with_id("Trainer")
    return _Training(
        (transform, tuner, trainer) if tuner else (transform, trainer),
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        tuner_results=tuner.outputs["tuner_results"] if tuner else None,
    )


def _tuner(config: PipelineConfig, runner: RunnerSettings, data: _Data, transform: Transform) -> Tuner:
    # TFX's local Tuner accepts no number of trials, not even one.
    parallel = tuner_pb2.TuneArgs(num_parallel_trials=runner.parallel_trials) if runner.parallel_trials > 1 else None
    return runner.tuner(
        tuner_fn=_TUNER_FN,
        examples=data.examples,
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        tune_args=parallel,
        custom_config=tuning_module.tuner_config(config.audio, config.training, config.tuner)
        | dict(runner.tuner_options),
    ).with_id("Tuner")


def _evaluation_stage(config: PipelineConfig, runner: RunnerSettings, data: _Data, training: _Training) -> _Evaluation:
    """Compare the candidate with the blessed baseline, and bless it if it passes the gate."""
    baseline = _baseline(runner, training.model)
    evaluator = GatedEvaluator(
        examples=data.examples,
        split=eval_config.SPLIT,
        model=training.model,
        baseline_model=baseline.outputs["model"],
        baseline_blessing=baseline.outputs["model_blessing"],
        serving_dir=runner.serving_dir,
        eval_config=eval_config.eval_config(config.gate, emotions=len(config.labels.emotions)),
        extractors_module=extractors.__name__,
        gate=config.gate,
    )
    return _Evaluation(
        (baseline, evaluator), evaluation=evaluator.outputs["evaluation"], blessing=evaluator.outputs["blessing"]
    )


def _baseline(runner: RunnerSettings, candidate: BaseChannel) -> Resolver:
    channels = {
        "model": Channel(type=standard_artifacts.Model),
        "model_blessing": Channel(type=standard_artifacts.ModelBlessing),
    }
    if runner.can_resolve_examples:
        node = Resolver(strategy_class=LatestOtherBlessedModel, **channels, **{CANDIDATE_KEY: candidate})
    else:
        node = Resolver(strategy_class=LatestBlessedModelStrategy, **channels)
    return node.with_id("BaselineResolver")


def _serving_stage(
    config: PipelineConfig, runner: RunnerSettings, data: _Data, training: _Training, evaluation: _Evaluation
) -> _Serving:
    """Try the candidate in a server, and push it if it is blessed."""
    serving_validator = ServingValidator(model=training.model, examples=data.examples, split=eval_config.SPLIT)
    infra_blessing = serving_validator.outputs["blessing"]
    pusher = runner.pusher(
        model=training.model,
        model_blessing=evaluation.blessing,
        infra_blessing=infra_blessing,
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=runner.serving_dir)
        ),
        custom_config=dict(config.push) | dict(runner.pusher_options),
    ).with_id("Pusher")
    return _Serving((serving_validator, pusher), infra_blessing, pushed_model=pusher.outputs["pushed_model"])
