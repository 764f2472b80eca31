"""The configuration of the pipeline on Vertex AI: the local one, and a section ``vertex``."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import pydantic

from pipeline.config import ConfigError, PipelineConfig, Section

_BUCKET_OR_FOLDER = r"^(gs://[a-z0-9][a-z0-9._-]{1,220}|/)"
_SPAN = "{SPAN}"

_RESOURCE_ID = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"

Address = Annotated[str, pydantic.Field(pattern=_BUCKET_OR_FOLDER)]


class NodeSettings(Section):
    """The machine of one node's container; Vertex chooses one that is large enough."""

    cpu: float = pydantic.Field(default=4, gt=0, description="cores")
    memory_gb: float = pydantic.Field(default=16, gt=0)
    retries: int = pydantic.Field(default=2, ge=0, le=10)


class JobSettings(Section):
    """The CustomJob that trains or tunes."""

    machine_type: str = "n1-standard-8"
    accelerator_type: str | None = "NVIDIA_TESLA_T4"
    accelerator_count: int = pydantic.Field(default=1, ge=0, le=16)
    spot: bool = False
    timeout_sec: int = pydantic.Field(default=6 * 3600, ge=60, le=7 * 24 * 3600)
    max_wait_sec: int = pydantic.Field(default=3600, ge=0, description="how long it may wait for a machine")
    boot_disk_gb: int = pydantic.Field(default=200, ge=100)

    @pydantic.model_validator(mode="after")
    def _require_both_or_none(self) -> "JobSettings":
        if bool(self.accelerator_type) != bool(self.accelerator_count):
            raise ValueError(
                f"accelerator_type is {self.accelerator_type!r} and accelerator_count {self.accelerator_count}; "
                "give both, or null and 0 for none"
            )
        return self


class TunerJobSettings(JobSettings):
    """The CustomJob that tunes, on several machines if asked."""

    parallel_trials: int = pydantic.Field(default=1, ge=1, le=64)


class DataflowSettings(Section):
    """Where the Beam components work."""

    enabled: bool = pydantic.Field(default=True, description="False runs Beam inside the components' containers.")
    image: str | None = pydantic.Field(default=None, description="of the workers: the Dockerfile's stage worker")
    machine_type: str = "n2-standard-4"
    disk_gb: int = pydantic.Field(default=50, ge=30)
    max_workers: int = pydantic.Field(default=8, ge=1, le=1000)
    subnetwork: str | None = pydantic.Field(default=None, pattern=r"^(https://|regions/)")
    public_ips: bool = False


class EndpointSettings(Section):
    """Where blessed models are deployed."""

    name: str = pydantic.Field(default="ser", pattern=_RESOURCE_ID, description="and its id, where it has to be made")
    model_id: str = pydantic.Field(default="ser", pattern=_RESOURCE_ID)
    image: str | None = pydantic.Field(
        default=None, description="TF Serving's, in Artifact Registry; without one models are pushed and not deployed"
    )
    machine_type: str = "n1-standard-2"
    min_replicas: int = pydantic.Field(default=1, ge=1)
    max_replicas: int = pydantic.Field(default=3, ge=1)
    canary_percent: int = pydantic.Field(default=10, ge=1, le=100, description="of the requests, to a new version")
    first_answer_sec: float = pydantic.Field(
        default=120.0, ge=0, description="how long a new version may get no request in spite of its share"
    )

    @pydantic.model_validator(mode="after")
    def _require_ordered_replicas(self) -> "EndpointSettings":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}, more than max_replicas, {self.max_replicas}")
        return self


class ScheduleSettings(Section):
    """When the pipeline runs by itself."""

    name: str = "ser"
    cron: str = "TZ=Etc/UTC 0 2 * * *"
    max_concurrent_runs: int = pydantic.Field(default=1, ge=1, le=10)


def _default_nodes() -> dict[str, NodeSettings]:
    return {"AnomalyGate": NodeSettings(cpu=2, memory_gb=8, retries=0)}  # what it finds, it finds again


class VertexSettings(Section):
    """Everything that a run needs to know of the cloud."""

    project: str = pydantic.Field(pattern=r"^[a-z][a-z0-9:.-]{4,}[a-z0-9]$")
    region: str = pydantic.Field(pattern=r"^[a-z]+-[a-z]+\d+$")
    data: Address = pydantic.Field(description="where the recordings lie")
    pipeline_root: Address
    serving_dir: Address = pydantic.Field(description="where blessed models go, a folder for each version")
    image: str = pydantic.Field(min_length=1, description="of the components: the Dockerfile's stage pipeline")
    gpu_image: str | None = None
    service_account: str = pydantic.Field(pattern=r"^[^@\s]+@[^@\s]+$")
    network: str | None = pydantic.Field(default=None, pattern=r"^projects/[^/]+/global/networks/[^/]+$")
    labels: dict[str, str] = pydantic.Field(default_factory=dict)
    experiment: str | None = pydantic.Field(default="ser", pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")
    default_node: NodeSettings = NodeSettings()
    nodes: dict[str, NodeSettings] = pydantic.Field(default_factory=_default_nodes)
    trainer: JobSettings = JobSettings()
    tuner: TunerJobSettings = TunerJobSettings()
    dataflow: DataflowSettings = DataflowSettings()
    endpoint: EndpointSettings = EndpointSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        """``project:`` with nothing behind it, as in configs/vertex.yaml, is a value that is still to be set."""
        if not isinstance(values, Mapping):
            return values
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        return {name: value for name, value in values.items() if value is not None or name not in required}

    @pydantic.model_validator(mode="after")
    def _require_gpu_image(self) -> "VertexSettings":
        """Without CUDA's libraries TensorFlow would train on the CPU of a machine whose GPU is paid for."""
        if self.gpu_image is None and (self.trainer.accelerator_type or self.tuner.accelerator_type):
            raise ValueError(
                "gpu_image must be set for the accelerators of trainer and tuner; or give both jobs "
                "accelerator_type: null and accelerator_count: 0"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _require_worker_image(self) -> "VertexSettings":
        """The components' image does not have Beam's boot program, and does not run as root."""
        if self.dataflow.enabled and self.dataflow.image is None:
            raise ValueError("dataflow.image must be set for Dataflow's workers; or set dataflow.enabled: false")
        return self

    def node(self, node_id: str) -> NodeSettings:
        """The machine for a node."""
        return {name.lower(): node for name, node in self.nodes.items()}.get(node_id.lower(), self.default_node)

    def require_known(self, node_ids: Collection[str]) -> None:
        """Raises :class:`ConfigError` where ``nodes`` names one that the pipeline has not.

        Letter case does not matter: a name that comes from the environment has none.
        """
        unknown = {name for name in self.nodes if name.lower() not in {node_id.lower() for node_id in node_ids}}
        if unknown:
            raise ConfigError(f"vertex.nodes names {sorted(unknown)}; the pipeline has {sorted(node_ids)}")


class VertexConfig(PipelineConfig):
    """What :class:`PipelineConfig` holds, and the cloud that it runs in."""

    vertex: VertexSettings = pydantic.Field(default_factory=dict, validate_default=True)

    @pydantic.model_validator(mode="after")
    def _require_drift_reference(self) -> "VertexConfig":
        if self.drift.enabled and not self.drift.reference:
            raise ValueError(
                "drift.enabled is true and drift.reference is not set; Vertex AI cannot look up which examples a model "
                "was trained on, so set drift.reference or drift.enabled=false"
            )
        return self

    @property
    def has_spans(self) -> bool:
        """Whether the recordings come in numbered spans, of which a run may choose one."""
        return _SPAN in self.ingest.pattern

    def span_range(self, span: int | None) -> dict[str, str]:
        """The run parameter that selects a span; the newest without one.

        Raises:
            ConfigError: The recordings do not come in spans.
        """
        if self.has_spans:
            chosen = f'{{"static_range": {{"start_span_number": {span}, "end_span_number": {span}}}}}'
            return {SPAN_PARAMETER: "" if span is None else chosen}
        if span is None:
            return {}
        raise ConfigError(
            f"--span {span}: ingest.pattern is {self.ingest.pattern!r}, which has no {_SPAN}; "
            f"put the recordings into numbered folders and set ingest.pattern to 'span-{_SPAN}/*/*/*'"
        )


SPAN_PARAMETER = "span_range"
