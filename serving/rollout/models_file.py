"""TF Serving's ``models.config`` on disk, replaced atomically."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from modules.common.files import read_text, require_file
from serving.rollout.state import UnusableFile

ServerConfig: TypeAlias = model_server_config_pb2.ModelServerConfig


def require_models_file(path: Path) -> None:
    """Require the file, before a server is contacted.

    Args:
        path: The file.

    Raises:
        UnusableFile: It does not exist, or is not a regular file.
    """
    try:
        require_file(path)
    except OSError as error:
        raise UnusableFile(f"cannot read {path}: {error.strerror}; name the server's models.config") from error


class ModelsFile:
    """A ``ModelServerConfig`` in text format, and one of its models.

    Args:
        path: The file.
        model: Name of the model to change.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path = path
        self._model = model

    def read(self) -> ServerConfig:
        """Return the whole configuration.

        Raises:
            UnusableFile: The file cannot be read, or does not name the model.
        """
        try:
            config = text_format.Parse(read_text(self.path), ServerConfig())
        except OSError as error:
            raise UnusableFile(f"cannot read {self.path}: {error.strerror}; name the server's models.config") from error
        except text_format.ParseError as error:
            raise UnusableFile(f"{self.path} is not a ModelServerConfig in text format: {error}") from error
        names = [model.name for model in config.model_config_list.config]
        if names.count(self._model) != 1:
            raise UnusableFile(f"{self.path} has the models {names}; it must have {self._model!r} once")
        return config

    def labels(self, config: ServerConfig) -> dict[str, int]:
        """Return the version of each of the model's labels.

        Args:
            config: The configuration of :meth:`read`.
        """
        return dict(self._entry(config).version_labels)

    def base_path(self, config: ServerConfig) -> str:
        """Return the folder of the model's versions.

        Args:
            config: The configuration of :meth:`read`.
        """
        return self._entry(config).base_path

    def versions(self, config: ServerConfig) -> list[int]:
        """Return the versions that the model's policy names.

        Args:
            config: The configuration of :meth:`read`.
        """
        return list(self._entry(config).model_version_policy.specific.versions)

    def with_versions(
        self, config: ServerConfig, *, versions: Iterable[int], labels: Mapping[str, int]
    ) -> ServerConfig:
        """Return ``config`` with other versions and labels for the model, otherwise unchanged.

        Args:
            config: The configuration to start from.
            versions: Versions to load.
            labels: Version of each label.
        """
        changed = ServerConfig()
        changed.CopyFrom(config)
        entry = self._entry(changed)
        entry.model_version_policy.Clear()
        entry.model_version_policy.specific.versions.extend(sorted(set(versions)))
        entry.version_labels.clear()
        for label, version in labels.items():
            entry.version_labels[label] = version
        return changed

    def with_base_path(self, config: ServerConfig, base_path: Path | None) -> ServerConfig:
        """Return ``config`` with the base path of a server that was started with ``--model-base-path``.

        Args:
            config: The configuration of the file.
            base_path: The server's base path; ``None`` keeps the file's.
        """
        moved = ServerConfig()
        moved.CopyFrom(config)
        if base_path is not None:
            self._entry(moved).base_path = str(base_path.resolve())
        return moved

    @contextmanager
    def prepared(self, config: ServerConfig) -> Iterator[Path]:
        """Write ``config`` to a temporary file for :meth:`replace`, which detects an unwritable disk before any change.

        Comments before the first line of the configuration are kept; others are lost.

        Args:
            config: The configuration to write.

        Raises:
            UnusableFile: The folder cannot be written.
        """
        lines = self.path.read_text().splitlines(keepends=True)
        head = "".join(itertools.takewhile(lambda line: not line.strip() or line.startswith("#"), lines))
        try:
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        except OSError as error:
            raise UnusableFile(
                f"cannot write into {self.path.parent}: {error.strerror}; nothing was changed"
            ) from error
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(head + text_format.MessageToString(config))
            shutil.copymode(self.path, name)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def replace(self, prepared: Path) -> None:
        """Replace the file by the temporary file.

        Args:
            prepared: The temporary file of :meth:`prepared`.

        Raises:
            UnusableFile: The file cannot be replaced, for example because it is itself a container's mount.
        """
        try:
            prepared.replace(self.path)
        except OSError as error:
            raise UnusableFile(
                f"cannot replace {self.path}: {error.strerror}; mount its folder, not the file"
            ) from error

    def _entry(self, config: ServerConfig) -> model_server_config_pb2.ModelConfig:
        return next(model for model in config.model_config_list.config if model.name == self._model)
