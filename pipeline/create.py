"""Wires the nodes. The only place that does: both runners call it and get the same list."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.components import ExampleValidator, Pusher, StatisticsGen, Trainer, Transform, Tuner
from tfx.dsl.components.base import base_component, base_node
from tfx.dsl.components.common import resolver
from tfx.orchestration import data_types
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2, tuner_pb2
from tfx.types import Channel, standard_artifacts

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
from modules.training import trainer, tuner
from pipeline import eval_config as evaluation
from pipeline.config import ConfigError, PipelineConfig

_PREPROCESSING_FN = f"{preprocessing.__name__}.{preprocessing.preprocessing_fn.__name__}"
_RUN_FN = f"{trainer.__name__}.{trainer.run_fn.__name__}"
_TUNER_FN = f"{tuner.__name__}.{tuner.tuner_fn.__name__}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Where a pipeline runs: all that differs between a laptop and the cloud.

    Attributes:
        input_base: Folder of recordings.
        pipeline_root: Where artifacts go.
        serving_dir: Where blessed models are pushed to, a folder for each version.
        beam_pipeline_args: For every component that runs on Beam.
        metadata: Connection to ML Metadata; none where the platform brings its own.
        span_range: A run parameter that selects the span to read; the newest is read without it.
        trainer: Where training happens: in this component or in a job that it starts.
        trainer_options: For that, beside what ``run_fn`` wants.
        tuner: Where tuning happens.
        tuner_options: For that, beside what ``tuner_fn`` wants.
        parallel_trials: How many machines tune at once; only a tuner that starts jobs can have more than one.
        pusher: How a model is pushed.
        pusher_options: For that.
        baseline_strategy: How the baseline is found; Vertex compiles none but TFX's own.
        experiment: Where runs are logged to be compared, beside ML Metadata.
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
    baseline_strategy: type[resolver.ResolverStrategy] = LatestOtherBlessedModel
    experiment: ExperimentSettings | None = None


def create_pipeline(config: PipelineConfig, site: Site) -> tfx_pipeline.Pipeline:
    """The whole DAG, from recordings to a pushed model and the report of the run."""
    return tfx_pipeline.Pipeline(
        pipeline_name=config.name,
        pipeline_root=site.pipeline_root,
        components=_nodes(config, site),
        enable_cache=config.cache,
        metadata_connection_config=site.metadata,
        beam_pipeline_args=list(site.beam_pipeline_args),
    )


def _nodes(config: PipelineConfig, site: Site) -> list[base_node.BaseNode]:
    example_gen = AudioExampleGen(
        input_base=site.input_base,
        settings=config.ingest_settings,
        range_config=site.span_range,
    )
    statistics_gen = StatisticsGen(examples=example_gen.outputs["examples"])
    curated_schema = CuratedSchema(schema.load(config.audio), examples=example_gen.outputs["examples"])
    example_validator = ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=curated_schema.outputs["schema"]
    )
    anomaly_gate = AnomalyGate(
        anomalies=example_validator.outputs["anomalies"],
        statistics=statistics_gen.outputs["statistics"],
        audio_spec=config.audio.fingerprint,
    )
    transform = _transform(config, example_gen, curated_schema)
    transform.add_upstream_node(anomaly_gate)
    drift_nodes = _drift_nodes(config, site, example_gen, curated_schema) if config.drift.enabled else []
    for node in drift_nodes[-1:]:
        transform.add_upstream_node(node)
    tuner = _tuner(config, site, transform) if config.tuner.enabled else None
    trainer = _trainer(config, site, transform, tuner)
    baseline = _baseline(site, trainer)
    evaluator = _evaluator(config, site, example_gen, trainer, baseline)
    serving_validator = ServingValidator(
        model=trainer.outputs["model"], examples=example_gen.outputs["examples"], split=evaluation.SPLIT
    )
    pusher = site.pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=serving_validator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=site.serving_dir)
        ),
        custom_config=dict(site.pusher_options) or None,
    ).with_id(Pusher.__name__)
    report = RunReport(
        config=config.to_dict(),
        examples=example_gen.outputs["examples"],
        model_run=trainer.outputs["model_run"],
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        infra_blessing=serving_validator.outputs["blessing"],
        pushed_model=pusher.outputs["pushed_model"],
        tuner_results=tuner.outputs["tuner_results"] if tuner else None,
        drift=drift_nodes[-1].outputs["drift"] if drift_nodes else None,
        experiment=site.experiment,
    )
    nodes = [example_gen, statistics_gen, curated_schema, example_validator, anomaly_gate, *drift_nodes]
    nodes += [transform, tuner]
    return [
        node for node in [*nodes, trainer, baseline, evaluator, serving_validator, pusher, report] if node is not None
    ]


def _drift_nodes(
    config: PipelineConfig,
    site: Site,
    example_gen: base_component.BaseComponent,
    curated_schema: base_component.BaseComponent,
) -> list[base_node.BaseNode]:
    """The DriftMonitor last, behind what finds its reference."""
    examples, schema_channel = example_gen.outputs["examples"], curated_schema.outputs["schema"]
    if config.drift.reference:
        return [DriftMonitor(examples=examples, schema=schema_channel, settings=config.drift)]
    if site.baseline_strategy is not LatestOtherBlessedModel:
        raise ConfigError(
            "drift.enabled: Vertex AI cannot find the examples that a model was trained on; name them with "
            "drift.reference, such as gs://bucket/artifacts/AudioExampleGen/examples/1"
        )
    reference = resolver.Resolver(
        strategy_class=drift_strategy.ExamplesOfBaseline,
        **{
            drift_strategy.EXAMPLES_KEY: Channel(type=standard_artifacts.Examples),
            drift_strategy.MODEL_KEY: Channel(type=standard_artifacts.Model),
            drift_strategy.BLESSING_KEY: Channel(type=standard_artifacts.ModelBlessing),
            drift_strategy.CURRENT_KEY: examples,
        },
    ).with_id("DriftReferenceResolver")
    monitor = DriftMonitor(
        examples=examples,
        schema=schema_channel,
        settings=config.drift,
        reference=reference.outputs[drift_strategy.EXAMPLES_KEY],
    )
    return [reference, monitor]


def _transform(
    config: PipelineConfig, example_gen: base_component.BaseComponent, curated_schema: base_component.BaseComponent
) -> Transform:
    return Transform(
        examples=example_gen.outputs["examples"],
        schema=curated_schema.outputs["schema"],
        preprocessing_fn=_PREPROCESSING_FN,
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "eval"]),
        custom_config=preprocessing.transform_config(config.audio, config.transform.normalisation),
    )


def _tuner(config: PipelineConfig, site: Site, transform: Transform) -> Tuner:
    # TFX's local tuner refuses to be told a number of trials, even one.
    parallel = tuner_pb2.TuneArgs(num_parallel_trials=site.parallel_trials) if site.parallel_trials > 1 else None
    return site.tuner(
        tuner_fn=_TUNER_FN,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        tune_args=parallel,
        custom_config=tuner.tuner_config(config.audio, config.training, config.tuner) | dict(site.tuner_options),
    ).with_id(Tuner.__name__)


def _trainer(config: PipelineConfig, site: Site, transform: Transform, tuner: Tuner | None) -> Trainer:
    return site.trainer(
        run_fn=_RUN_FN,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        custom_config=trainer.trainer_config(config.audio, config.training, config.limits) | dict(site.trainer_options),
    ).with_id(Trainer.__name__)


def _baseline(site: Site, trainer: Trainer) -> resolver.Resolver:
    channels = {
        "model": Channel(type=standard_artifacts.Model),
        "model_blessing": Channel(type=standard_artifacts.ModelBlessing),
    }
    if site.baseline_strategy is LatestOtherBlessedModel:
        channels[CANDIDATE_KEY] = trainer.outputs["model"]
    return resolver.Resolver(strategy_class=site.baseline_strategy, **channels).with_id("BaselineResolver")


def _evaluator(
    config: PipelineConfig,
    site: Site,
    example_gen: base_component.BaseComponent,
    trainer: Trainer,
    baseline: resolver.Resolver,
) -> GatedEvaluator:
    return GatedEvaluator(
        examples=example_gen.outputs["examples"],
        split=evaluation.SPLIT,
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        baseline_blessing=baseline.outputs["model_blessing"],
        serving_dir=site.serving_dir,
        eval_config=evaluation.eval_config(config.gate),
        extractors_module=extractors.__name__,
        gate=config.gate,
    )
