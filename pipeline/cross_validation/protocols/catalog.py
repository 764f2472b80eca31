"""The named protocols: which speakers each fold tests, and which emotions the model has."""

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Literal

import yaml
from pydantic import Field

from modules.common.errors import SerError
from modules.common.settings import Settings
from modules.data.labels import LabelSettings
from pipeline.config import PipelineConfig

_SUFFIX = ".yaml"
_FOLDER = resources.files(__package__)


class ProtocolError(SerError, ValueError):
    """No protocol has the name, or the configuration contradicts the protocol."""

    code = "cross_validation.protocol"


class EvaluationProtocol(Settings):
    """A protocol of evaluation, whose results can be compared with those of others.

    Attributes:
        name: Name of its file, without the suffix.
        title: What it is, in a line.
        source: Where the folds come from.
        corpus: The corpus that it is of; None if of any.
        recordings: Number of recordings of the corpus.
        labels: Emotions of the model; None if the configuration decides.
        folds: Test speakers of each fold, without the name of the corpus, or the rule that makes the folds.
        folds_sha256: The result of :func:`folds_digest`, if the test speakers are listed.
    """

    name: str
    title: str
    source: str
    corpus: str | None = None
    recordings: int | None = Field(None, ge=1)
    labels: LabelSettings | None = None
    folds: tuple[tuple[str, ...], ...] | Literal["each speaker", "each corpus"]
    folds_sha256: str | None = None

    @property
    def listed(self) -> tuple[tuple[str, ...], ...]:
        """Ids of the test speakers of each fold; empty if a rule makes the folds."""
        if isinstance(self.folds, str):
            return ()
        return tuple(tuple(f"{self.corpus}-{speaker}" for speaker in test) for test in self.folds)

    def configured(self, config: PipelineConfig) -> PipelineConfig:
        """Return a configuration with the emotions of the protocol.

        Args:
            config: Configuration of the user.

        Raises:
            ProtocolError: The user chose other emotions.
        """
        if self.labels is None or config.labels == self.labels:
            return config
        if config.labels != LabelSettings():
            raise ProtocolError(
                f"labels is {_text(config.labels)}, and --protocol {self.name} has {_text(self.labels)}; leave labels "
                "out of the configuration, or use --folds, whose results are not those of the protocol"
            )
        return config.replace(labels=self.labels)


def protocol_names() -> list[str]:
    """Return the names of all protocols, sorted."""
    files = (file.name for file in _FOLDER.iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX))


def protocol_named(name: str) -> EvaluationProtocol:
    """Return a protocol.

    Args:
        name: Its name.

    Raises:
        ProtocolError: No protocol has this name.
    """
    if name not in (known := protocol_names()):
        raise ProtocolError(
            f"--protocol is {name}; allowed: {', '.join(known)}; `ser evaluate --protocol list` describes them"
        )
    content = yaml.safe_load(_FOLDER.joinpath(f"{name}{_SUFFIX}").read_text(encoding="utf-8"))
    return EvaluationProtocol(name=name, **content)


def folds_digest(tests: Sequence[Sequence[str]]) -> str:
    """Return the SHA-256 of the test speakers of all folds, 64 hexadecimal digits.

    It is the hash of their JSON, such as ``[["ravdess-01", "ravdess-11"], ["ravdess-02"]]``: the folds in order, the
    speakers of each sorted.

    Args:
        tests: Ids of the test speakers of each fold.
    """
    return hashlib.sha256(json.dumps([sorted(test) for test in tests]).encode()).hexdigest()


def _text(labels: LabelSettings) -> str:
    mapping = ", ".join(f"{label} becomes {target}" for label, target in labels.mapping.items())
    return f"{', '.join(labels.emotions)}{f' ({mapping})' if mapping else ''}"
