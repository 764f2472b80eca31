"""How a model is trained and tuned: frozen, checked, light to import.

The messages name a setting as the configuration file does.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from modules.audio.spec import AudioSpec
from modules.models import FAMILIES, ModelFamily, family_named

Schedule = Literal["plateau", "cosine", "constant"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Algorithm = Literal["random", "bayesian", "hyperband"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained.

    Attributes:
        family: A name in :data:`modules.models.FAMILIES`.
        hyperparameters: Values in place of the family's defaults.
        epochs: At most so many passes over the training clips.
        batch_size: Clips per step.
        learning_rate: Adam's, at the start.
        learning_rate_schedule: ``plateau`` multiplies the rate by ``plateau_factor`` when the loss on ``eval``
            has not fallen for ``plateau_patience`` epochs, down to ``plateau_min_learning_rate``; ``cosine`` lets it
            fall to zero over all epochs; ``constant`` keeps it.
        weight_decay: AdamW's decoupled weight decay; 0 is Adam.
        label_smoothing: Share of the target that is spread over all classes.
        mixup: Training clips are mixed in pairs, in shares drawn from Beta(mixup, mixup); 0 mixes nothing.
        early_stopping_patience: Epochs without the loss on ``eval`` falling by ``early_stopping_min_delta``
            after which training ends; 0 never ends early.
        restore_best_weights: Whether the model is that of the epoch with the least loss on ``eval`` instead of the
            last. Off, as in the original: that loss rises while the accuracy still improves (docs/results.md).
        calibrate: Whether the probabilities are tempered so that the loss on ``eval`` is least (temperature
            scaling, Guo et al. 2017). It changes no decision, only how sure the model says it is.
        precision: Keras' dtype policy while training; the exported model computes in float32.
        xla: Whether the training step is compiled by XLA; not together with ``deterministic``.
        deterministic: Whether the same input gives the same weights, at some cost in speed on a GPU.
        seed: Of the weights, the order of the clips, dropout and augmentation.
    """

    family: str = "original_cnn"
    hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3
    learning_rate_schedule: Schedule = "plateau"
    plateau_factor: float = 0.4
    plateau_patience: int = 2
    plateau_min_learning_rate: float = 1e-6
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    early_stopping_patience: int = 4
    early_stopping_min_delta: float = 0.001
    restore_best_weights: bool = False
    calibrate: bool = True
    precision: Precision = "float32"
    xla: bool = False
    deterministic: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _require_at_least(self, "training", 1, "epochs", "batch_size", "plateau_patience")
        _require_at_least(
            self, "training", 0, "early_stopping_patience", "early_stopping_min_delta", "weight_decay", "seed"
        )
        _require_at_least(self, "training", 0, "plateau_min_learning_rate", "mixup")
        _require_above_zero(self, "training", "learning_rate", "plateau_factor")
        _require_below_one(self, "training", "plateau_factor", "label_smoothing")
        _require_at_least(self, "training", 0, "label_smoothing")
        _require_one_of(self, "training", "learning_rate_schedule", get_args(Schedule))
        _require_one_of(self, "training", "precision", get_args(Precision))
        _require_one_of(self, "training", "family", tuple(FAMILIES))
        self.model_family.hyperparameters(self.hyperparameters)
        if self.xla and self.deterministic:
            raise ValueError(
                "training.xla and training.deterministic are both true; Keras compiles nothing with XLA while "
                "TensorFlow's deterministic operations are on: set one of them to false"
            )

    @property
    def model_family(self) -> ModelFamily[Any]:
        return family_named(self.family)

    def require_features_of(self, spec: AudioSpec) -> None:
        """Raises ValueError unless the family reads the features that ``spec`` describes."""
        if self.model_family.feature_family != spec.feature_family:
            raise ValueError(
                f"training.family is {self.family}, which reads {self.model_family.feature_family} features, and "
                f"audio.feature_family is {spec.feature_family}; set audio.feature_family="
                f"{self.model_family.feature_family} or choose another family"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """How hyperparameters are searched.

    Attributes:
        enabled: Whether the pipeline searches at all.
        algorithm: ``random``, ``bayesian`` (Gaussian process) or ``hyperband`` (many short trials, few long ones).
        max_trials: Trials of a random or Bayesian search; Hyperband derives its own from ``epochs``.
        epochs: At most so many in one trial.
        objective: What is compared, as Keras names it.
        seed: Of the search.
    """

    enabled: bool = False
    algorithm: Algorithm = "random"
    max_trials: int = 20
    epochs: int = 30
    objective: Literal["val_loss", "val_accuracy"] = "val_loss"
    seed: int = 0

    def __post_init__(self) -> None:
        _require_at_least(self, "tuner", 1, "max_trials", "epochs")
        _require_at_least(self, "tuner", 0, "seed")
        _require_one_of(self, "tuner", "algorithm", get_args(Algorithm))
        _require_one_of(self, "tuner", "objective", ("val_loss", "val_accuracy"))


def _require_at_least(settings: object, prefix: str, least: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value >= least:
            raise ValueError(f"{prefix}.{name} is {value}; it must be {least} or above")


def _require_above_zero(settings: object, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise ValueError(f"{prefix}.{name} is {value}; it must be above 0")


def _require_below_one(settings: object, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value < 1:
            raise ValueError(f"{prefix}.{name} is {value}; it must be below 1")


def _require_one_of(settings: object, prefix: str, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(settings, name)
    if value not in allowed:
        raise ValueError(f"{prefix}.{name} is {value!r}; it must be one of {', '.join(allowed)}")
