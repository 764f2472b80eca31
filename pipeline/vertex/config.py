"""Configuration of the pipeline on Vertex AI: the local one, and a section ``vertex``."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from modules.common.settings import Settings
from pipeline.config import ConfigError, PipelineConfig

_SPAN = "{SPAN}"

# Values of a cron field and what may stand between them, as in crontab(5): lists, ranges, steps.
_CRON_VALUES = (
    "[0-5]?[0-9]",
    "[01]?[0-9]|2[0-3]",
    "0?[1-9]|[12][0-9]|3[01]",
    "0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC",
    "[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT",
)


def _cron_field(value: str) -> str:
    item = rf"(\*|({value})(-({value}))?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_CRON = rf"^((CRON_)?TZ=[A-Za-z0-9_+/-]+ )?{' '.join(map(_cron_field, _CRON_VALUES))}$"


def _text(pattern: str, allowed: str) -> Any:
    return Field(pattern=pattern, json_schema_extra={"allowed": allowed})


Address = Annotated[str, _text(r"^(gs://[a-z0-9][a-z0-9._-]{1,220}|/)", "gs://BUCKET/FOLDER, or an absolute path")]
ResourceId = Annotated[str, _text(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", "1 to 63 of a-z, 0-9 and -, a letter first")]
Image = Annotated[
    # A tag that moves would let Dataflow's workers run other code than the component that started them.
    str, _text(r"^[^\s@]+@sha256:[0-9a-f]{64}$", "an image with its digest, NAME@sha256:DIGEST")
]
MachineType = Annotated[str, _text(r"^[a-z][a-z0-9]*-[a-z0-9-]+$", "a machine type, such as n1-standard-8")]
LabelKey = Annotated[str, _text(r"^[a-z][a-z0-9_-]{0,62}$", "1 to 63 of a-z, 0-9, _ and -, a letter first")]
LabelValue = Annotated[str, _text(r"^[a-z0-9_-]{0,63}$", "up to 63 of a-z, 0-9, _ and -")]
Accelerator = Literal[
    "NVIDIA_TESLA_K80",
    "NVIDIA_TESLA_P100",
    "NVIDIA_TESLA_V100",
    "NVIDIA_TESLA_P4",
    "NVIDIA_TESLA_T4",
    "NVIDIA_TESLA_A100",
    "NVIDIA_A100_80GB",
    "NVIDIA_L4",
    "NVIDIA_H100_80GB",
    "NVIDIA_H100_MEGA_80GB",
    "NVIDIA_H200_141GB",
    "NVIDIA_B200",
    "NVIDIA_GB200",
    "NVIDIA_RTX_PRO_6000",
]


class NodeSettings(Settings):
    """Machine of one node's container; Vertex AI chooses one that is large enough."""

    cpu: float = Field(4, gt=0, description="Cores.")
    memory_gb: float = Field(16, gt=0, description="Memory in GB.")
    retries: int = Field(2, ge=0, le=10, description="Further attempts after a failure.")


class JobSettings(Settings):
    """The CustomJob that trains or tunes."""

    machine_type: MachineType = Field("n1-standard-8", description="Machine type of the job.")
    accelerator_type: Accelerator | None = Field(
        "NVIDIA_TESLA_T4", description="Accelerator, as Vertex AI names it; null, with `accelerator_count` 0, for none."
    )
    accelerator_count: int = Field(1, ge=0, le=16, description="Accelerators of the machine; they share each batch.")
    strategy: Literal["standard", "spot", "flex_start"] = Field(
        "standard",
        description="`standard`: a machine now, or RESOURCE_EXHAUSTED. `spot`: a third of the price, may be "
        "interrupted. `flex_start`: waits in a queue until the accelerators are free.",
    )
    timeout_sec: int = Field(6 * 3600, ge=60, le=7 * 24 * 3600, description="Seconds after which the job is cancelled.")
    max_wait_sec: int | None = Field(
        None,
        ge=0,
        description="Longest wait of `flex_start` in seconds; 0 without limit, null for Vertex AI's default of a day.",
    )
    boot_disk_gb: int = Field(200, ge=100, le=64_000, description="Boot disk in GB.")

    @pydantic.model_validator(mode="after")
    def _require_both_or_none(self) -> Self:
        if bool(self.accelerator_type) != bool(self.accelerator_count):
            raise ValueError(
                f"accelerator_type is {self.accelerator_type} and accelerator_count {self.accelerator_count}; "
                "allowed: both, or null and 0 for none"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _require_flex_start(self) -> Self:
        """Refuse a wait that Vertex AI would ignore, and a queue, which it has for accelerators alone."""
        if self.max_wait_sec is not None and self.strategy != "flex_start":
            raise ValueError(
                f"max_wait_sec is {self.max_wait_sec} and strategy {self.strategy}, which does not wait; allowed: "
                "strategy: flex_start, or max_wait_sec: null"
            )
        if self.strategy == "flex_start" and not self.accelerator_count:
            raise ValueError(
                "strategy is flex_start and accelerator_count 0; allowed: strategy: standard, or accelerators"
            )
        return self


class TunerJobSettings(JobSettings):
    """The CustomJob that tunes."""

    parallel_trials: int = Field(1, ge=1, le=64, description="Machines that tune at once.")


class DataflowSettings(Settings):
    """Machines of the Beam components."""

    enabled: bool = Field(
        True,
        description="Whether Dataflow does the work of AudioExampleGen, StatisticsGen, Transform and Evaluator; false "
        "runs Beam inside their containers, which is cheaper for a few thousand recordings.",
    )
    image: Image | None = Field(
        None, description="Image of the workers, the Dockerfile's stage `worker`; needed while Dataflow is enabled."
    )
    machine_type: MachineType = Field("n2-standard-4", description="Machine type of a worker.")
    disk_gb: int = Field(50, ge=30, le=64_000, description="Disk of a worker in GB.")
    max_workers: int = Field(8, ge=1, le=1000, description="Most workers of one job.")
    subnetwork: Annotated[str, _text(r"^(https://|regions/)", "regions/REGION/subnetworks/NAME")] | None = Field(
        None, description="Subnetwork of the workers, with Private Google Access."
    )
    public_ips: bool = Field(False, description="Whether workers have public IP addresses.")


class EndpointSettings(Settings):
    """The endpoint that blessed models are deployed to."""

    name: ResourceId = Field("ser", description="Name of the endpoint, and its id where it has to be made.")
    kind: Literal["dedicated", "shared"] = Field(
        "dedicated",
        description="`dedicated`: requests of 10 MB, isolated. `shared`: 1.5 MB, works with VPC Service Controls.",
    )
    model_id: ResourceId = Field("ser", description="Id of the model in the model registry.")
    image: Image | None = Field(
        None, description="TF Serving's image in Artifact Registry; without one models are registered and not deployed."
    )
    machine_type: MachineType = Field("n1-standard-2", description="Machine type of a replica.")
    min_replicas: int = Field(1, ge=1, le=1000, description="Fewest replicas.")
    max_replicas: int = Field(3, ge=1, le=1000, description="Most replicas.")
    canary_percent: int = Field(
        10,
        ge=1,
        le=100,
        description="Percentage of the requests to a new version; 100 replaces the stable version at once.",
    )
    first_answer_sec: float = Field(
        120.0, ge=0, description="Longest time in seconds that a new version may get no request in spite of its share."
    )
    request_log: (
        Annotated[str, _text(r"^bq://[a-z][a-z0-9:.-]{4,}[a-z0-9]\.\w+\.[\w-]+$", "bq://PROJECT.DATASET.TABLE")] | None
    ) = Field(
        None,
        description="BigQuery table for a sample of the requests, with the sound, and of the answers; null logs none.",
    )
    request_log_rate: float = Field(0.1, gt=0, le=1, description="Share of the requests that are logged.")

    @pydantic.model_validator(mode="after")
    def _require_ordered_replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}; allowed: at most max_replicas, {self.max_replicas}")
        return self


class ScheduleSettings(Settings):
    """Schedule of the pipeline."""

    name: str = Field("ser", min_length=1, max_length=128, description="Name of the schedule.")
    cron: Annotated[str, _text(_CRON, "TZ=AREA/CITY MINUTE HOUR DAY MONTH WEEKDAY, such as TZ=Etc/UTC 0 2 * * *")] = (
        Field("TZ=Etc/UTC 0 2 * * *", description="Start times of runs, as in crontab(5).")
    )
    max_concurrent_runs: int = Field(1, ge=1, le=10, description="Most runs at once.")


class NewRecordingsSettings(Settings):
    """Runs that new recordings start (`submit --when-new`)."""

    subscription: ResourceId = Field(
        "ser-recordings", description="Pub/Sub subscription with the notifications of the bucket of recordings."
    )
    quiet_min: float = Field(30, ge=0, description="Minutes without another recording before a run starts.")
    max_wait_min: float = Field(
        720, ge=0, le=8640, description="Minutes after the first recording before a run starts although more arrive."
    )

    @pydantic.model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.quiet_min > self.max_wait_min:
            raise ValueError(f"quiet_min is {self.quiet_min:g}; allowed: at most max_wait_min, {self.max_wait_min:g}")
        return self


_DEFAULT_NODES = {
    # A retry would find the same anomalies.
    "AnomalyGate": {"cpu": 2, "memory_gb": 8, "retries": 0},
    # These start a job and wait for it: a retry could pay for another one.
    "Trainer": {"cpu": 1, "memory_gb": 4, "retries": 0},
    "Tuner": {"cpu": 1, "memory_gb": 4, "retries": 0},
}


class VertexSettings(Settings):
    """Settings of the cloud."""

    project: Annotated[str, _text(r"^[a-z][a-z0-9:.-]{4,}[a-z0-9]$", "id of a Google Cloud project")] = Field(
        description="Google Cloud project."
    )
    region: Annotated[str, _text(r"^[a-z]+-[a-z]+\d+$", "a region, such as europe-west4")] = Field(
        description="Region of runs; machines, buckets and images should be there."
    )
    data: Address = Field(description="Folder of recordings.")
    pipeline_root: Address = Field(description="Folder for the artifacts of runs.")
    serving_dir: Address = Field(description="Folder for blessed models, with a folder for each version.")
    image: Image = Field(description="Image of the components, the Dockerfile's stage `pipeline`.")
    gpu_image: Image | None = Field(
        None, description="GPU variant of `image`; the trainer and the tuner need it where they have an accelerator."
    )
    service_account: Annotated[str, _text(r"^[^@\s]+@[^@\s]+$", "NAME@PROJECT.iam.gserviceaccount.com")] = Field(
        description="Service account of runs."
    )
    network: (
        Annotated[str, _text(r"^projects/[^/]+/global/networks/[^/]+$", "projects/NUMBER/global/networks/NAME")] | None
    ) = Field(None, description="Network to peer with.")
    labels: dict[LabelKey, LabelValue] = Field({}, description="Labels of everything that is created, for the bill.")
    experiment: Annotated[str, _text(r"^[a-z0-9][a-z0-9-]{0,59}$", "1 to 60 of a-z, 0-9 and -")] | None = Field(
        "ser", description="Experiment of Vertex AI Experiments that runs are logged to; null for none."
    )
    cache_max_age_days: int = Field(
        30, ge=1, description="Age in days at which artifacts are no longer used from the cache."
    )
    run_retention_days: int = Field(
        90, ge=2, description="Age in days at which the lifecycle rule of `pipeline_root` deletes artifacts."
    )
    default_node: NodeSettings = NodeSettings()
    nodes: dict[str, NodeSettings] = Field(
        {name: NodeSettings(**values) for name, values in _DEFAULT_NODES.items()},
        description="Machines of single nodes, by name, in place of `default_node`.",
    )
    trainer: JobSettings = JobSettings()
    tuner: TunerJobSettings = TunerJobSettings()
    dataflow: DataflowSettings = DataflowSettings()
    endpoint: EndpointSettings = EndpointSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    new_recordings: NewRecordingsSettings = NewRecordingsSettings()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        """Treat a required key without a value, such as ``project:`` in configs/vertex.yaml, as missing."""
        if not isinstance(values, Mapping):
            return values
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        return {name: value for name, value in values.items() if value is not None or name not in required}

    @pydantic.field_validator("nodes", mode="before")
    @classmethod
    def _add_default_nodes(cls, given: Any) -> Any:
        """Keep the defaults of a node for the keys that are not given."""
        if not isinstance(given, Mapping):
            return given
        names = {name.lower(): name for name in _DEFAULT_NODES}
        merged: dict[str, Any] = dict(_DEFAULT_NODES)
        for name, values in given.items():
            node_id = names.get(str(name).lower(), str(name))
            merged[node_id] = {**merged.get(node_id, {}), **values} if isinstance(values, Mapping) else values
        return merged

    @pydantic.model_validator(mode="after")
    def _require_cache_younger_than_retention(self) -> Self:
        """Require the order, since Vertex AI's cache has no age limit and would use artifacts with deleted files."""
        if self.cache_max_age_days >= self.run_retention_days:
            raise ValueError(
                f"cache_max_age_days is {self.cache_max_age_days} and run_retention_days {self.run_retention_days}; "
                "allowed: cache_max_age_days below run_retention_days"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _require_worker_image(self) -> Self:
        """Require the image: that of the components does not have Beam's boot program and does not run as root."""
        if self.dataflow.enabled and self.dataflow.image is None:
            raise ValueError(
                "dataflow.image is null and dataflow.enabled true; allowed: an image in dataflow.image, or "
                "dataflow.enabled: false"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _require_gpu_image(self) -> Self:
        """Require the image: without CUDA's libraries TensorFlow would train on the CPU of a machine with a GPU."""
        if self.gpu_image is None and (self.trainer.accelerator_type or self.tuner.accelerator_type):
            raise ValueError(
                "gpu_image is null and trainer or tuner has an accelerator; allowed: an image in gpu_image, or "
                "accelerator_type: null and accelerator_count: 0 for both jobs"
            )
        return self

    def node(self, node_id: str) -> NodeSettings:
        """Return the machine of a node.

        Args:
            node_id: Id of the node; letter case does not matter.
        """
        return {name.lower(): node for name, node in self.nodes.items()}.get(node_id.lower(), self.default_node)

    def require_known(self, node_ids: Collection[str]) -> None:
        """Check that ``nodes`` names nodes of the pipeline; letter case does not matter.

        Args:
            node_ids: Ids of the nodes of the pipeline.

        Raises:
            ConfigError: It names an unknown node.
        """
        names = {node_id.lower() for node_id in [*node_ids, *_DEFAULT_NODES]}
        unknown = {name for name in self.nodes if name.lower() not in names}
        if unknown:
            raise ConfigError(f"vertex.nodes has {', '.join(sorted(unknown))}; allowed: {', '.join(sorted(node_ids))}")


class VertexConfig(PipelineConfig):
    """The sections of :class:`PipelineConfig`, and ``vertex``."""

    vertex: VertexSettings

    @pydantic.model_validator(mode="after")
    def _require_even_batches(self) -> Self:
        jobs = {"trainer": self.vertex.trainer} | ({"tuner": self.vertex.tuner} if self.tuner.enabled else {})
        for name, job in jobs.items():
            if job.accelerator_count and self.training.batch_size % job.accelerator_count:
                raise ValueError(
                    f"training.batch_size is {self.training.batch_size} and vertex.{name}.accelerator_count "
                    f"{job.accelerator_count}, which share each batch; allowed: a multiple of {job.accelerator_count}"
                )
        return self

    @property
    def has_spans(self) -> bool:
        """Whether the recordings arrive in numbered spans, of which a run may select one."""
        return _SPAN in self.ingest.pattern

    def span_range(self, span: int | None) -> dict[str, str]:
        """Return the run parameter that selects a span; empty if the recordings have no spans.

        Args:
            span: Number of the span; None for the newest.

        Raises:
            ConfigError: ``span`` is given and the recordings have no spans.
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
