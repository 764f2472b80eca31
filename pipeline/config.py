"""Configuration of a run: a frozen, validated tree of sections.

A value comes from the defaults here, then the recipe of the model family, then the YAML file, then the environment,
then ``--set``; the later wins (:mod:`pipeline.config_sources`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, overload

import pydantic
from pydantic import Field

from components.atomic_pusher.settings import PushSettings
from components.audio_example_gen.settings import IngestSettings, InputSettings
from components.drift_monitor.settings import MonitorSettings
from modules.audio.augmentation import AugmentationSettings
from modules.audio.decoding import AudioLimits
from modules.audio.spec import AudioSpec
from modules.common.digest import digest
from modules.common.settings import MAX_SEED, Settings, problems
from modules.data.labels import LabelSettings
from modules.data.splits import SplitSettings
from modules.evaluation.gate import GateSettings
from modules.models import DEFAULT_FAMILY
from modules.reporting.settings import ReportSettings
from modules.training.settings import TrainingSettings, TuningSettings
from pipeline.config_sources import ConfigError, Sources, read_given, resolve

__all__ = ["ConfigError", "PipelineConfig", "load_config", "validate"]


class TransformSettings(Settings):
    """Normalisation of the features, with constants learned on the train split."""

    normalisation: Literal["zscore", "minmax", "none"] = Field(
        "zscore",
        description="`zscore`: mean 0 and standard deviation 1. `minmax`: 0 to 1. `none`: as they are, for "
        "`training.finetune_blocks`.",
    )


BeamArgument = Annotated[
    str, Field(pattern=r"^--[a-z]", json_schema_extra={"allowed": "--NAME=VALUE, an argument of Beam or of its runner"})
]


class BeamSettings(Settings):
    """The Beam runner of the components that Dataflow does not run."""

    workers: int = Field(
        1, ge=1, le=1024, description="Number of threads, or of processes with `mode=multi_processing`."
    )
    mode: Literal["in_memory", "multi_threading", "multi_processing"] = Field(
        "in_memory", description="How the workers run; `multi_processing` for long ingests."
    )
    args: tuple[BeamArgument, ...] = Field(
        (),
        description="Further arguments, which override the others, such as `--runner=PortableRunner` with a "
        "`--job_endpoint` of Flink or Spark.",
    )


class PipelineConfig(Settings):
    """Everything that a run depends on, apart from the data."""

    name: str = Field(
        "ser",
        pattern=r"^[a-z0-9][a-z0-9-]{0,127}$",
        description="Name of the pipeline; models are compared with the blessed ones of the same name.",
        json_schema_extra={"allowed": "1 to 128 of a-z, 0-9 and -"},
    )
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Seed of everything; splits, drift, training and tuner may have their own."
    )
    cache: bool = Field(True, description="Whether steps whose inputs and settings are the same are reused.")
    ingest: InputSettings = InputSettings()
    audio: AudioSpec = AudioSpec()
    limits: AudioLimits = AudioLimits()
    labels: LabelSettings = LabelSettings()
    splits: SplitSettings = SplitSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    drift: MonitorSettings = MonitorSettings()
    transform: TransformSettings = TransformSettings()
    training: TrainingSettings = TrainingSettings()
    tuner: TuningSettings = TuningSettings()
    gate: GateSettings = GateSettings()
    push: PushSettings = PushSettings()
    report: ReportSettings = ReportSettings()
    beam: BeamSettings = BeamSettings()

    @pydantic.model_validator(mode="after")
    def _require_matching_features(self) -> Self:
        self.training.require_features_of(self.audio)
        return self

    @pydantic.model_validator(mode="after")
    def _require_own_values_for_trained_blocks(self) -> Self:
        normalisation, blocks = self.transform.normalisation, self.training.finetune_blocks
        if (normalisation == "none") != (blocks > 0):
            raise ValueError(
                f"transform.normalisation is {normalisation} and training.finetune_blocks {blocks}; allowed: none with "
                "blocks, which is set where you set neither, and zscore or minmax with 0"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _require_one_choice_of_confidence(self) -> Self:
        if self.training.max_error is not None and self.limits.min_confidence:
            raise ValueError(
                f"training.max_error is {self.training.max_error} and limits.min_confidence "
                f"{self.limits.min_confidence}; allowed: one of them, since the first chooses the second"
            )
        return self

    @property
    def ingest_settings(self) -> IngestSettings:
        """Settings of the AudioExampleGen."""
        return IngestSettings(
            **dict(self.ingest),
            audio=self.audio,
            labels=self.labels,
            splits=self.splits,
            augmentation=self.augmentation,
            limits=self.limits.at_ingest,
            min_test_speakers=self.gate.min_test_speakers,
            seed=self.seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as YAML and JSON write them."""
        return self.model_dump(mode="json")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when any value does."""
        return digest(self.to_dict())


_Config = TypeVar("_Config", bound=PipelineConfig)


@overload
def load_config(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    family: str = DEFAULT_FAMILY,
) -> PipelineConfig: ...
@overload
def load_config(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    family: str = DEFAULT_FAMILY,
    tree: type[_Config],
) -> _Config: ...
def load_config(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    family: str = DEFAULT_FAMILY,
    tree: type[PipelineConfig] = PipelineConfig,
) -> PipelineConfig:
    """Read and validate the configuration.

    Args:
        path: A YAML file; keys that it leaves out, or whose default it repeats, keep their default.
        overrides: ``section.key=value`` texts, the value written as in YAML.
        environ: The environment to read ``SER__SECTION__KEY`` from.
        family: Model family where the user names none (:mod:`pipeline.default_family`).
        tree: Class of the configuration.

    Returns:
        The configuration.

    Raises:
        ConfigError: With a line for each unusable value.
    """
    return validate(resolve(read_given(path, overrides=overrides, environ=environ or {}), tree, family), tree)


def validate(sources: Sources, tree: type[_Config]) -> _Config:
    """Return the configuration with the values of ``sources``.

    Args:
        sources: Merged values of all sources.
        tree: Class of the configuration.

    Returns:
        The configuration.

    Raises:
        ConfigError: With a line for each unusable value.
    """
    try:
        return tree.model_validate(sources.values)
    except pydantic.ValidationError as error:
        raise ConfigError(problems(error, tree, origin=sources.origin)) from None
