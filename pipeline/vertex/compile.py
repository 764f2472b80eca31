"""Compiler of the pipeline for Vertex AI: the nodes of :func:`pipeline.create.create_pipeline` as JSON.

Runs on Vertex AI differ from local ones in this: training and tuning are CustomJobs, Dataflow runs the components that
use Beam, and nodes have machines and retries. Compiling needs neither credentials nor a network.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.base import base_node, executor_spec
from tfx.extensions.google_cloud_ai_platform import constants
from tfx.extensions.google_cloud_ai_platform.trainer import executor as vertex_trainer_executor
from tfx.extensions.google_cloud_ai_platform.tuner import executor as vertex_tuner_executor
from tfx.orchestration import data_types
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from components.audio_example_gen import vertex_driver
from components.run_report.experiments import ExperimentSettings
from components.vertex_jobs.component import VertexTrainer, VertexTuner
from components.vertex_pusher.component import VertexPusher
from modules.training.devices import ACCELERATORS_KEY
from pipeline.create import RunnerSettings, create_pipeline
from pipeline.vertex.config import SPAN_PARAMETER, JobSettings, NodeSettings, VertexConfig, VertexSettings

_ResourceSpec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec

# Beam's default runner would first request a binary from the network.
_PINNED_RUNNER = "--runner=FnApiRunner"
_LOCAL_BEAM = (
    _PINNED_RUNNER,
    # Without it TFX builds a source distribution of itself before each component.
    "--sdk_container_image=unused",
)


def compile_pipeline(config: VertexConfig, *, span: int | None = None) -> dict[str, Any]:
    """Return a Vertex PipelineJob with pipeline spec 2.1 as JSON values. Equal configurations give equal jobs.

    Args:
        config: Configuration.
        span: Span of recordings that a run reads by default; None for the newest. A submission may choose another.

    Raises:
        ConfigError: ``vertex.nodes`` names an unknown node, or ``span`` is given and the recordings have no spans.
    """
    pipeline = make_pipeline(config)
    config.vertex.require_known([node.id for node in pipeline.components])
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            display_name=config.name,
            default_image=config.vertex.image,
            use_pipeline_spec_2_1=True,  # in 2.0 the executor does not receive the span
        )
    )
    job = runner.run(pipeline, parameter_values=config.span_range(span), write_out=False)
    _set_machines(job, config.vertex)
    _set_retries(job, config.vertex)
    _set_driver(job, config.vertex.cache_max_age_days)
    return job


def make_pipeline(config: VertexConfig) -> tfx_pipeline.Pipeline:
    """Return the DAG with the settings of the cloud.

    Args:
        config: Configuration.
    """
    pipeline = create_pipeline(config, _runner_settings(config))
    if config.vertex.dataflow.enabled:
        for node in pipeline.components:
            if isinstance(node.executor_spec, executor_spec.BeamExecutorSpec):
                node.with_beam_pipeline_args(dataflow_args(config, node))  # the last of two values counts
    return pipeline


def _runner_settings(config: VertexConfig) -> RunnerSettings:
    vertex = config.vertex
    return RunnerSettings(
        input_base=vertex.data,
        pipeline_root=vertex.pipeline_root,
        serving_dir=vertex.serving_dir,
        beam_pipeline_args=(*_LOCAL_BEAM, *config.beam.args),
        span_range=data_types.RuntimeParameter(name=SPAN_PARAMETER, ptype=str) if config.has_spans else None,
        trainer=VertexTrainer,
        trainer_options=_job_options(vertex, vertex.trainer, vertex_trainer_executor.TRAINING_ARGS_KEY),
        tuner=VertexTuner,
        tuner_options=_job_options(vertex, vertex.tuner, vertex_tuner_executor.TUNING_ARGS_KEY),
        parallel_trials=vertex.tuner.parallel_trials,
        pusher=VertexPusher,
        pusher_options=_pusher_options(vertex),
        can_resolve_examples=False,  # Vertex AI runs TFX's own resolver strategies alone
        experiment=_experiment(vertex),
    )


def _experiment(vertex: VertexSettings) -> ExperimentSettings | None:
    if vertex.experiment is None:
        return None
    return ExperimentSettings(project=vertex.project, region=vertex.region, name=vertex.experiment)


def _pusher_options(vertex: VertexSettings) -> dict[str, Any]:
    """Return the fields of :class:`components.vertex_pusher.executor.Options`."""
    endpoint = vertex.endpoint.model_dump()
    location = {"project": vertex.project, "region": vertex.region, "labels": dict(vertex.labels)}
    return location | {"endpoint": endpoint.pop("name")} | endpoint


def _job_options(vertex: VertexSettings, job: JobSettings, key: str) -> dict[str, Any]:
    """Return the entries from which TFX's executors make a CustomJob; they add the command."""
    machine: dict[str, Any] = {"machine_type": job.machine_type}
    if job.accelerator_type:
        machine |= {"accelerator_type": job.accelerator_type, "accelerator_count": job.accelerator_count}
    image = vertex.gpu_image if job.accelerator_type else vertex.image
    job_spec = {
        "worker_pool_specs": [
            {
                "machine_spec": machine,
                "replica_count": 1,
                "container_spec": {"image_uri": image},
                "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": job.boot_disk_gb},
            }
        ],
        "scheduling": _scheduling(job),
        "service_account": vertex.service_account,
    }
    if vertex.network:
        job_spec["network"] = vertex.network
    return {
        ACCELERATORS_KEY: job.accelerator_count,
        constants.ENABLE_VERTEX_KEY: True,
        constants.VERTEX_REGION_KEY: vertex.region,
        key: {"project": vertex.project, "labels": dict(vertex.labels), "job_spec": job_spec},
    }


def _scheduling(job: JobSettings) -> dict[str, Any]:
    scheduling = {
        "timeout": {"seconds": job.timeout_sec},
        "strategy": job.strategy.upper(),
        "restart_job_on_worker_restart": job.strategy == "spot",
    }
    if job.max_wait_sec is not None:
        scheduling["max_wait_duration"] = {"seconds": job.max_wait_sec}
    return scheduling


def dataflow_args(config: VertexConfig, node: base_node.BaseNode) -> list[str]:
    """Return Beam's arguments that run a node's work on Dataflow, in workers of the worker image.

    Args:
        config: Configuration.
        node: The node; its id is a label of the job.
    """
    vertex, dataflow = config.vertex, config.vertex.dataflow
    temporary = f"{vertex.pipeline_root.rstrip('/')}/dataflow/{config.name}"
    arguments = [
        "--runner=DataflowRunner",
        f"--project={vertex.project}",
        f"--region={vertex.region}",
        f"--temp_location={temporary}/tmp",
        f"--staging_location={temporary}/staging",
        f"--service_account_email={vertex.service_account}",
        f"--machine_type={dataflow.machine_type}",
        f"--disk_size_gb={dataflow.disk_gb}",
        f"--max_num_workers={dataflow.max_workers}",
        f"--sdk_container_image={dataflow.image}",
        "--sdk_location=container",
        "--experiments=use_runner_v2",
        f"--labels=node={node.id.lower()}",
        *(f"--labels={key}={value}" for key, value in sorted(vertex.labels.items())),
    ]
    if dataflow.subnetwork:
        arguments.append(f"--subnetwork={dataflow.subnetwork}")
    if not dataflow.public_ips:
        arguments.append("--no_use_public_ips")
    return arguments


def _set_driver(job: dict[str, Any], cache_max_age_days: int) -> None:
    """Replace the driver that TFX compiles into every ExampleGen by this project's."""
    for _, container in _containers(job):
        if "lifecycle" in container:
            check = container["lifecycle"]["preCacheCheck"]
            check["command"] = ["python", "-m", vertex_driver.__name__]
            check["args"] += [f"{vertex_driver.MAX_AGE_FLAG}={cache_max_age_days}"]


def _set_machines(job: dict[str, Any], vertex: VertexSettings) -> None:
    """Set the machine of every container here, since TFX drops the settings of an ExampleGen (tfx#6146)."""
    for node_id, container in _containers(job):
        container["resources"] = _resources(vertex.node(node_id))


def _resources(node: NodeSettings) -> dict[str, Any]:
    spec = _ResourceSpec(cpu_limit=node.cpu, memory_limit=node.memory_gb)
    return json_format.MessageToDict(spec)


def _containers(job: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    spec = job["pipelineSpec"]
    for node_id, component in spec["components"].items():
        executor = spec["deploymentSpec"]["executors"].get(component.get("executorLabel"), {})
        if "container" in executor:
            yield node_id, executor["container"]


def _set_retries(job: dict[str, Any], vertex: VertexSettings) -> None:
    """Add retry policies, for which TFX has no setting."""
    containers = {node_id for node_id, _ in _containers(job)}
    for node_id, task in job["pipelineSpec"]["root"]["dag"]["tasks"].items():
        if node_id in containers and vertex.node(node_id).retries:
            task["retryPolicy"] = _retry_policy(vertex.node(node_id).retries)


def _retry_policy(retries: int) -> dict[str, Any]:
    policy = pipeline_spec_pb2.PipelineTaskSpec.RetryPolicy(max_retry_count=retries, backoff_factor=2)
    policy.backoff_duration.FromSeconds(60)
    policy.backoff_max_duration.FromSeconds(3600)
    return json_format.MessageToDict(policy)
