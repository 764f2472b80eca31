"""Records of the trials of a search on disk, so that a stopped search resumes."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Self

import tensorflow as tf

from modules.common.digest import digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A finished training.

    Attributes:
        values: Values that the search proposed, including Hyperband's own ``tuner/`` entries.
        history: Values per epoch, by the names of Keras.
        seconds: Duration of the training.
    """

    values: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float

    def to_json(self) -> str:
        """Return the record as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the record that :meth:`to_json` wrote."""
        return cls(**json.loads(text))


class TrialRecords:
    """A folder, on any file system of TensorFlow, with a file for each finished trial.

    Files are written atomically.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        tf.io.gfile.makedirs(folder)

    def find(self, values: Mapping[str, Any]) -> TrialRecord | None:
        """Return the finished trial of exactly these values, or None."""
        path = self._path(values)
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            return TrialRecord.from_json(file.read())

    def add(self, record: TrialRecord) -> None:
        """Write a record, in place of an earlier one of the same values."""
        path = self._path(record.values)
        temporary = f"{path}.{os.getpid()}"
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(record.to_json())
        tf.io.gfile.rename(temporary, path, overwrite=True)

    def _path(self, values: Mapping[str, Any]) -> str:
        return f"{self._folder}/{digest([dict(values)])}.json"
