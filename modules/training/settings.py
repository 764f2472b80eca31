"""Settings of training and tuning, light to import."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from modules.audio.encoder.catalog import ENCODERS
from modules.audio.spec import AudioSpec
from modules.common.settings import MAX_SEED, Settings
from modules.models import DEFAULT_FAMILY, FAMILIES, ModelFamily, family_named

Schedule = Literal["plateau", "cosine", "constant"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Balance = Literal["none", "emotion", "corpus", "speaker"]
Algorithm = Literal["random", "bayesian", "hyperband"]


class TrainingSettings(Settings):
    """Settings of the training."""

    family: str = Field(
        DEFAULT_FAMILY,
        description="Architecture of the model. A family brings its own features and training along, its recipe. "
        "A run that names none uses `encoder_cnn` where the weights of its encoder are, as on Vertex AI.",
        json_schema_extra={"allowed": ", ".join(FAMILIES)},
    )
    hyperparameters: dict[str, Any] = Field(
        {}, description="Hyperparameters of the family in place of its defaults, such as `{filters: 64, dropout: 0.2}`."
    )
    finetune_blocks: int = Field(
        0,
        ge=0,
        description="Blocks of the encoder that are trained with the head, for a GPU; the features are then the frames "
        "of the block before them. A number above 0 sets `audio.encoder_blocks`, `audio.encoder_pool_frames` and "
        "`transform.normalisation` to what this needs.",
    )
    finetune_learning_rate_factor: float = Field(
        0.1, gt=0, le=1, description="Learning rate of these blocks as a share of the head's, `learning_rate`."
    )
    epochs: int = Field(70, ge=1, description="Most passes over the training clips.")
    batch_size: int = Field(32, ge=1, description="Clips per step.")
    learning_rate: float = Field(0.002, gt=0, description="Learning rate of Adam at the start.")
    learning_rate_schedule: Schedule = Field(
        "cosine",
        description="`plateau` multiplies the rate by `plateau_factor` when the loss on eval has not fallen for "
        "`plateau_patience` epochs, down to `plateau_min_learning_rate`; `cosine` lowers it to zero over all epochs; "
        "`constant` keeps it.",
    )
    plateau_factor: float = Field(0.4, gt=0, lt=1, description="Factor of the schedule `plateau`.")
    plateau_patience: int = Field(2, ge=1, description="Patience of the schedule `plateau` in epochs.")
    plateau_min_learning_rate: float = Field(1e-6, ge=0, description="Lowest learning rate of the schedule `plateau`.")
    weight_decay: float = Field(0.02, ge=0, description="Decoupled weight decay of AdamW; 0 is Adam.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target that is spread over all classes.")
    # hardly better UAR, but half the calibration error
    mixup: float = Field(
        0.3,
        ge=0,
        description="Training clips are mixed in pairs, in shares drawn from Beta(`mixup`, `mixup`); 0 mixes nothing.",
    )
    balance: Balance = Field(
        "none",
        description="Groups of training clips that weigh the same in the loss, however many clips each has: every "
        "`emotion`, `corpus` or `speaker`. `none` weighs every clip the same.",
    )
    early_stopping_patience: int = Field(
        0,
        ge=0,
        description="Epochs without the loss on eval falling by `early_stopping_min_delta` after which training ends; "
        "0 never ends early.",
    )
    early_stopping_min_delta: float = Field(0.001, ge=0, description="Least improvement of the loss on eval.")
    restore_best_weights: bool = Field(
        False,
        description="Whether the model has the weights of the epoch with the least loss on eval instead of the last.",
    )
    calibrate: bool = Field(
        True,
        description="Whether the probabilities are calibrated on eval by temperature scaling (Guo et al. 2017), which "
        "changes no decision.",
    )
    refit: bool = Field(
        False,
        description="Whether the model is trained once more, from the start and for as many epochs, on the clips of "
        "eval too, after these have calibrated it. Takes twice as long, and pays where speakers are few.",
    )
    max_error: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Error rate of the answers that the served model keeps for nine of ten speakers like those of "
        "eval: where it is less sure, it answers `not_sure`. Chooses `limits.min_confidence` on eval. null always "
        "gives an emotion.",
    )
    precision: Precision = Field(
        "float32", description="Dtype policy of Keras while training; the exported model computes in float32."
    )
    xla: bool = Field(False, description="Whether XLA compiles the training step; not together with `deterministic`.")
    deterministic: bool = Field(
        True, description="Whether the same input gives the same weights, at some cost in speed on a GPU."
    )
    memory_mib: int = Field(
        2048,
        ge=0,
        description="Size in MiB up to which the features of a split are kept in memory while training. Larger ones "
        "are read from a temporary file in `$TMPDIR` or `/var/tmp`, with the same results.",
    )
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Seed of the weights, the order of the clips, dropout and augmentation."
    )

    @field_validator("family")
    @classmethod
    def _require_family(cls, family: str) -> str:
        return family_named(family).name

    @field_validator("hyperparameters")
    @classmethod
    def _require_hyperparameters(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "family" in info.data:
            family_named(info.data["family"]).hyperparameters(values)
        return values

    @model_validator(mode="after")
    def _require_one_of_xla_and_deterministic(self) -> Self:
        # Keras compiles nothing with XLA while TensorFlow's deterministic operations are on.
        if self.xla and self.deterministic:
            raise ValueError("xla and deterministic are both true; allowed: one of them")
        return self

    @model_validator(mode="after")
    def _require_fixed_epochs_to_refit(self) -> Self:
        if self.refit and (self.early_stopping_patience or self.learning_rate_schedule == "plateau"):
            raise ValueError(
                "refit is true, and eval decides on the epochs or the learning rate; allowed with refit: "
                "early_stopping_patience=0 and another learning_rate_schedule than plateau"
            )
        return self

    @property
    def max_bytes(self) -> int:
        """``memory_mib`` in bytes."""
        return self.memory_mib * 2**20

    @property
    def model_family(self) -> ModelFamily[Any]:
        """The model family named by ``family``."""
        return family_named(self.family)

    def require_features_of(self, spec: AudioSpec) -> None:
        """Check that the family reads the features that ``spec`` describes, and that ``finetune_blocks`` fits them.

        Args:
            spec: Audio spec of the examples.

        Raises:
            ValueError: The family reads other features, or the blocks cannot be trained on these.
        """
        if self.model_family.feature_family != spec.feature_family:
            raise ValueError(
                f"training.family is {self.family}, which reads {self.model_family.feature_family} features, and "
                f"audio.feature_family is {spec.feature_family}; allowed with this family: "
                f"{self.model_family.feature_family}"
            )
        if self.finetune_blocks:
            self._require_blocks_after(spec)

    def _require_blocks_after(self, spec: AudioSpec) -> None:
        setting = f"training.finetune_blocks is {self.finetune_blocks}"
        if spec.feature_family != "encoder":
            names = [name for name, family in FAMILIES.items() if family.feature_family == "encoder"]
            raise ValueError(
                f"{setting}, and {self.family} has no encoder; allowed: 0, or training.family={' or '.join(names)}"
            )
        if len(spec.encoder_blocks) > 1 or spec.encoder_pool_frames > 1:
            raise ValueError(
                f"{setting}, audio.encoder_blocks {list(spec.encoder_blocks)} and audio.encoder_pool_frames "
                f"{spec.encoder_pool_frames}; allowed: one block, the last that is not trained, and 1 frame. Both are "
                "set where you set neither"
            )
        (last,), blocks = spec.encoder_blocks, ENCODERS[spec.encoder].blocks
        if last + self.finetune_blocks > blocks:
            raise ValueError(
                f"{setting}, after block {last} (audio.encoder_blocks) of {spec.encoder}, which has {blocks}; "
                f"allowed: at most {blocks - last}"
            )


class TuningSettings(Settings):
    """Settings of the search for hyperparameters."""

    enabled: bool = Field(False, description="Whether the pipeline searches hyperparameters before it trains.")
    algorithm: Algorithm = Field(
        "random",
        description="`random`, `bayesian` (Gaussian process) or `hyperband` (many short trials, few long ones).",
    )
    max_trials: int = Field(
        20,
        ge=1,
        description="Trials of a random or Bayesian search; Hyperband derives its number of trials from `epochs`.",
    )
    epochs: int = Field(30, ge=1, description="Most epochs of one trial.")
    objective: Literal["val_loss", "val_accuracy"] = Field(
        "val_loss", description="Metric on eval that trials are compared by, as Keras names it."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the search.")
