"""Executor of the AtomicPusher."""

import os
import time
from collections.abc import Sequence

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, proto_utils

from components.artifacts import Artifacts, Properties
from modules.export.contract import EXTRA_ASSETS, PROTOCOL_FILE
from modules.reporting import model_card

# TF Serving loads folders that are named by a number and ignores all others.
_PARTIAL_PREFIX = ".partial-"
# Which model artifact a version came from; in the folder for assets outside the graph.
_SOURCE_FILE = os.path.join(EXTRA_ASSETS, "source_model")


class NotWanted(RuntimeError):
    """A version was pushed and cannot be served; the message gives the reason."""


class Executor(tfx_pusher.Executor):
    """Executor that copies to a temporary folder and renames it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Push the model if all blessings upstream are positive, and record its path and version."""
        pushed_model = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed_model)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        model_path, base_directory = self.GetModelPath(input_dict), destination.filesystem.base_directory
        was_there = newest_if_from(model_path, base_directory) is not None
        version_path = push(model_path, base_directory, extra_assets=_from_evaluation(input_dict))
        try:
            self.announce(version_path, model_path, pushed_model, exec_properties)
        except NotWanted:
            if not was_there:
                fileio.rmtree(version_path)
            raise
        io_utils.copy_dir(version_path, pushed_model.uri)
        self._MarkPushed(pushed_model, pushed_destination=version_path, pushed_version=os.path.basename(version_path))

    def announce(
        self, version_path: str, model_path: str, pushed_model: types.Artifact, exec_properties: Properties
    ) -> None:
        """Announce the version. Does nothing here, as TF Serving polls the folder.

        Raises:
            NotWanted: The version must be removed, if this push created it.
        """


def push(model_path: str, base_directory: str, *, extra_assets: Sequence[str] = ()) -> str:
    """Copy ``model_path`` to ``<base_directory>/<version>``, atomically, and return that path.

    A version is the time of the push in seconds, or one more than the newest when two pushes fall into one second.

    Args:
        model_path: Folder of the SavedModel; local or in a bucket.
        base_directory: Folder of the versions that TF Serving watches; local or in a bucket.
        extra_assets: Files to copy into the folder for assets outside the graph (``assets.extra``).
    """
    fileio.makedirs(base_directory)
    _clear_partial(base_directory)
    pushed = newest_if_from(model_path, base_directory)
    if pushed is not None:
        return pushed
    version = str(max(int(time.time()), max(_versions(base_directory), default=0) + 1))
    partial = os.path.join(base_directory, _PARTIAL_PREFIX + version)
    io_utils.copy_dir(model_path, partial)
    io_utils.write_string_file(os.path.join(partial, _SOURCE_FILE), model_path)
    for path in extra_assets:
        io_utils.copy_file(path, os.path.join(partial, EXTRA_ASSETS, os.path.basename(path)))
    fileio.rename(partial, os.path.join(base_directory, version))
    return os.path.join(base_directory, version)


def newest_if_from(model_path: str, base_directory: str) -> str | None:
    """Path of the newest version, if it is a copy of ``model_path``."""
    newest = max(_versions(base_directory), default=0) if fileio.exists(base_directory) else 0
    version_path = os.path.join(base_directory, str(newest))
    return version_path if newest and _source(version_path) == model_path else None


def find_pushed(model_path: str, base_directory: str) -> str | None:
    """Return the path of the newest version that is a copy of ``model_path``, if there is one."""
    versions = sorted(_versions(base_directory), reverse=True) if fileio.exists(base_directory) else []
    paths = (os.path.join(base_directory, str(version)) for version in versions)
    return next((path for path in paths if _source(path) == model_path), None)


def _from_evaluation(input_dict: Artifacts) -> list[str]:
    """Return what the evaluation left with its blessing: the model card, and the speakers of each split."""
    folder = artifact_utils.get_single_uri(input_dict[standard_component_specs.MODEL_BLESSING_KEY])
    paths = [os.path.join(folder, name) for name in (model_card.JSON_FILE, model_card.MARKDOWN_FILE, PROTOCOL_FILE)]
    return [path for path in paths if fileio.exists(path)]


def _versions(base_directory: str) -> list[int]:
    return [int(name.rstrip("/")) for name in fileio.listdir(base_directory) if name.rstrip("/").isdigit()]


def _source(version_path: str) -> str | None:
    path = os.path.join(version_path, _SOURCE_FILE)
    return io_utils.read_string_file(path) if fileio.exists(path) else None


def _clear_partial(base_directory: str) -> None:
    """Remove the files of a killed push; in a bucket, which renames file by file, also a partial version."""
    for name in fileio.listdir(base_directory):
        if name.startswith(_PARTIAL_PREFIX):
            partial = name.rstrip("/")
            for left in (partial.removeprefix(_PARTIAL_PREFIX), partial):  # in this order: the latter names the former
                if fileio.exists(os.path.join(base_directory, left)):
                    fileio.rmtree(os.path.join(base_directory, left))
