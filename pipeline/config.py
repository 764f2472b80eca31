"""The one place where everything is configured: a frozen, validated tree.

A value comes from the defaults here, then the recipe of the model family, then the YAML file, then the environment,
then ``--set``; the later wins.
The environment is read in this module alone: ``SER__TRAINING__EPOCHS=3`` says ``--set training.epochs=3``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import pydantic
import yaml

from components.audio_example_gen.corpora import LabelSettings
from components.audio_example_gen.settings import FIVE_LEVELS, IngestSettings, require_spans
from components.drift_monitor.settings import MonitorSettings
from modules.audio.augmentation import AugmentationSettings
from modules.audio.decoding import AudioLimits
from modules.audio.spec import AudioSpec
from modules.data.splits import SplitSettings
from modules.evaluation.gate import GateSettings
from modules.models import DEFAULT_FAMILY, FAMILIES
from modules.training.settings import TrainingSettings, TuningSettings

_ENVIRONMENT_PREFIX = "SER__"
_SEEDED_SECTIONS = ("splits", "drift", "training", "tuner")


class ConfigError(ValueError):
    """The configuration cannot be used; the message names each key, what was seen and what is allowed."""


class Section(pydantic.BaseModel):
    """A frozen part of the tree that knows its keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class InputSettings(Section):
    """Which files are read, and how many of them may be unusable.

    ``pattern`` has a ``*`` for each level of folders; ``span-{SPAN}/*/*`` reads the newest span, two levels deep, and
    with ``spans`` above 1 those before it, too.
    """

    pattern: str = FIVE_LEVELS
    spans: int = 1
    max_quarantined_share: float = pydantic.Field(default=0.05, ge=0, le=1)

    @pydantic.model_validator(mode="after")
    def _require_spans(self) -> "InputSettings":
        require_spans(self.pattern, self.spans)
        return self


class TransformSettings(Section):
    """How features are normalised, with constants learned on ``train``."""

    normalisation: Literal["zscore", "minmax"] = "zscore"


class BeamSettings(Section):
    """The local Beam runner."""

    workers: int = pydantic.Field(default=1, ge=1, description="Threads, or processes where `mode` says so.")
    mode: Literal["in_memory", "multi_threading", "multi_processing"] = "in_memory"


class PipelineConfig(Section):
    """Everything that a run depends on, apart from the data."""

    name: str = pydantic.Field(default="ser", pattern=r"^[a-z0-9][a-z0-9-]{0,127}$")
    seed: int = pydantic.Field(default=0, ge=0)
    cache: bool = True
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
    beam: BeamSettings = BeamSettings()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _spread_seed(cls, values: Any) -> Any:
        """One seed serves every section that is not given its own."""
        if not isinstance(values, dict) or "seed" not in values:
            return values
        seeded = {name: {"seed": values["seed"], **values.get(name, {})} for name in _SEEDED_SECTIONS}
        return {**values, **seeded}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _begin_with_recipe(cls, values: Any) -> Any:
        """Whoever names a model family gets the features and the training that go with it, but for what is set."""
        if not isinstance(values, dict) or not isinstance(values.get("training", {}), dict):
            return values
        family = FAMILIES.get(values.get("training", {}).get("family", DEFAULT_FAMILY))
        if family is None or not all(isinstance(values.get(name, {}), dict) for name in family.recipe):
            return values  # whose validation says what is wrong
        sections = {name: {**keys, **values.get(name, {})} for name, keys in family.recipe.items()}
        training = {"family": family.name, **(sections.get("training") or values.get("training", {}))}
        return {**values, **sections, "training": training}

    @pydantic.model_validator(mode="after")
    def _require_matching_features(self) -> "PipelineConfig":
        self.training.require_features_of(self.audio)
        return self

    @property
    def ingest_settings(self) -> IngestSettings:
        """What the AudioExampleGen wants."""
        return IngestSettings(
            audio=self.audio,
            labels=self.labels,
            splits=self.splits,
            augmentation=self.augmentation,
            limits=self.limits,
            pattern=self.ingest.pattern,
            spans=self.ingest.spans,
            max_quarantined_share=self.ingest.max_quarantined_share,
            seed=self.seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML and JSON write them."""
        return self.model_dump(mode="json")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when any value does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


_Config = TypeVar("_Config", bound=PipelineConfig)


@overload
def load_config(
    path: Path | None = None, *, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> PipelineConfig: ...
@overload
def load_config(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    tree: type[_Config],
) -> _Config: ...
def load_config(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    tree: type[PipelineConfig] = PipelineConfig,
) -> PipelineConfig:
    """Reads and validates the configuration.

    Args:
        path: A YAML file; what it leaves out keeps its default.
        tree: Which sections there are.
        overrides: ``section.key=value`` texts, the value written as in YAML.
        environ: The environment to read ``SER__SECTION__KEY`` from.

    Raises:
        ConfigError: With a line for each unusable value.
    """
    values = _read_yaml(path) if path else {}
    for name, text in sorted((environ or {}).items()):
        if name.startswith(_ENVIRONMENT_PREFIX):
            _set(values, name.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__"), text, origin=name)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: write it as section.key=value, such as training.epochs=20")
        _set(values, key.strip().split("."), text, origin=f"--set {override}")
    try:
        return tree.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, tree)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; configs/local.yaml lists every key with its default")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values or {}, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; it must hold sections, as configs/local.yaml does")
    return values or {}


def _set(values: dict[str, Any], keys: Sequence[str], text: str, *, origin: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{origin}: {key} is a value, not a section")
    try:
        # One value has no anchors, so what begins like an alias is a pattern.
        value = text if text.startswith("*") else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: {text!r} is not a YAML value: {error}") from None
    # "Ada: why" is a text here; whoever means a mapping writes braces.
    values[keys[-1]] = text if isinstance(value, dict) and not text.lstrip().startswith("{") else value


def _explain(error: pydantic.ValidationError, tree: type[PipelineConfig]) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            lines.append(f"{key}: must be set, with --set {key}=VALUE, {_variable(key)} or in the file")
            continue
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            message = f"there is no such key; allowed beside it: {', '.join(_keys_beside(tree, problem['loc']))}"
        lines.append(f"{key}: {message} (seen: {problem['input']!r})")
    return "The configuration cannot be used:\n  " + "\n  ".join(lines)


def _variable(key: str) -> str:
    return _ENVIRONMENT_PREFIX + key.replace(".", "__").upper()


def _keys_beside(tree: type[PipelineConfig], location: tuple[int | str, ...]) -> list[str]:
    schema = tree.model_json_schema()
    section = schema
    for part in location[:-1]:
        below = section["properties"].get(part) if "properties" in section else section["additionalProperties"]
        section = schema["$defs"][below["$ref"].rpartition("/")[2]] if "$ref" in below else below
    return sorted(section["properties"])
