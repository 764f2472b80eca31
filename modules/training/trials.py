"""What became of each trial of a search, on disk, so that a search that was stopped goes on."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, Self

import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One training that came to its end.

    Attributes:
        values: What the search proposed, Hyperband's own ``tuner/`` entries included.
        history: What Keras recorded of each epoch, by metric.
        seconds: Time that the training took.
    """

    values: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


class TrialRecords:
    """A folder, on any file system that TensorFlow knows, with a file for each finished trial.

    A file is whole or absent, whatever happens to the process that writes it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        tf.io.gfile.makedirs(folder)

    def find(self, values: Mapping[str, Any]) -> TrialRecord | None:
        """The trial of exactly these values, if it finished."""
        path = self._path(values)
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            return TrialRecord.from_json(file.read())

    def add(self, record: TrialRecord) -> None:
        path = self._path(record.values)
        aside = f"{path}.{os.getpid()}"
        with tf.io.gfile.GFile(aside, "w") as file:
            file.write(record.to_json())
        tf.io.gfile.rename(aside, path, overwrite=True)

    def _path(self, values: Mapping[str, Any]) -> str:
        return f"{self._folder}/{digest(dict(values))}.json"


def digest(*parts: object) -> str:
    """16 hexadecimal digits that differ when any of ``parts``, which JSON can write, does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
