"""Executor of the AtomicPusher."""

import os
import time
from collections.abc import Sequence

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, json_utils, proto_utils

from components.artifacts import VALIDATED_FILE, Artifacts, Properties
from modules.common.errors import SerError
from modules.export import manifest
from modules.export.contract import EXAMPLES_FILE, EXTRA_ASSETS, PROTOCOL_FILE
from modules.reporting import model_card

# TF Serving loads folders that are named by a number and ignores others.
_PARTIAL_PREFIX = ".partial-"
# Path of the model artifact that a version is a copy of.
_SOURCE_FILE = os.path.join(EXTRA_ASSETS, "source_model")


class PushRejected(SerError, RuntimeError):
    """A pushed version cannot be deployed."""

    code = "push.rejected"


class Executor(tfx_pusher.Executor):
    """Push by a copy to a temporary folder and a rename."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Push the model if it is blessed, and record path and version.

        Args:
            input_dict: Model and blessings.
            output_dict: The pushed model.
            exec_properties: Those of TFX's Pusher.

        Raises:
            PushRejected: The version could not be deployed; it was removed if this push made it.
            ManifestError: The files of the model are not those that were validated, or the version has other files.
        """
        pushed_model = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed_model)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        model_path, base_directory = self.GetModelPath(input_dict), destination.filesystem.base_directory
        existed = newest_if_from(model_path, base_directory) is not None
        version_path = push(
            model_path,
            base_directory,
            extra_assets=_from_evaluation(input_dict),
            validated=_validated(input_dict),
            signing_key=_signing_key(exec_properties),
        )
        try:
            self.deploy(version_path, model_path, pushed_model, exec_properties)
        except PushRejected:
            if not existed:
                fileio.rmtree(version_path)
            raise
        io_utils.copy_dir(version_path, pushed_model.uri)
        self._MarkPushed(pushed_model, pushed_destination=version_path, pushed_version=os.path.basename(version_path))

    def deploy(
        self, version_path: str, model_path: str, pushed_model: types.Artifact, exec_properties: Properties
    ) -> None:
        """Deploy the new version. A hook for subclasses; TF Serving finds the version without it.

        Args:
            version_path: Folder of the version.
            model_path: Model that the version is a copy of.
            pushed_model: Output artifact, for properties of the deployment.
            exec_properties: Those of the component.

        Raises:
            PushRejected: The version cannot be deployed and must be removed.
        """


def push(
    model_path: str,
    base_directory: str,
    *,
    extra_assets: Sequence[str] = (),
    validated: manifest.Manifest | None = None,
    signing_key: str | None = None,
    source: str | None = None,
) -> str:
    """Copy a model to ``<base_directory>/<version>`` by an atomic rename, unless it is the newest version already.

    A version is the time of the push in seconds since 1970, or one more than the newest version if that is larger.

    Args:
        model_path: Folder of the SavedModel.
        base_directory: Folder of the versions.
        extra_assets: Files to copy into ``assets.extra``, which TF Serving ignores.
        validated: Files that the ServingValidator validated; the copy must have the same.
        signing_key: Address of the private key that signs the manifest of the version.
        source: What to record as the model that the version is a copy of; ``model_path`` by default.

    Returns:
        Path of the version.

    Raises:
        ManifestError: The copy is not what was validated, or the newest version is not what was pushed.
        KeyUnusable: The private key cannot be used.
    """
    fileio.makedirs(base_directory)
    _clear_partial(base_directory)
    pushed = newest_if_from(model_path, base_directory)
    if pushed is not None:
        manifest.require_intact(pushed)
        return pushed
    version = str(max(int(time.time()), max(_versions(base_directory), default=0) + 1))
    partial = os.path.join(base_directory, _PARTIAL_PREFIX + version)
    io_utils.copy_dir(model_path, partial)
    if validated is not None:
        manifest.require_same(partial, validated)
    io_utils.write_string_file(os.path.join(partial, _SOURCE_FILE), source or model_path)
    for path in extra_assets:
        io_utils.copy_file(path, os.path.join(partial, EXTRA_ASSETS, os.path.basename(path)))
    manifest.write(partial, signing_key=signing_key)
    fileio.rename(partial, os.path.join(base_directory, version))
    return os.path.join(base_directory, version)


def newest_if_from(model_path: str, base_directory: str) -> str | None:
    """Return the path of the newest version, or None if it is not a copy of ``model_path``.

    Args:
        model_path: Folder of the SavedModel.
        base_directory: Folder of the versions.
    """
    newest = max(_versions(base_directory), default=0) if fileio.exists(base_directory) else 0
    version_path = os.path.join(base_directory, str(newest))
    return version_path if newest and source_of(version_path) == model_path else None


def find_pushed(model_path: str, base_directory: str) -> str | None:
    """Return the path of the newest copy of ``model_path`` among the versions; None without one.

    Args:
        model_path: Folder of the SavedModel.
        base_directory: Folder of the versions.
    """
    versions = sorted(_versions(base_directory), reverse=True) if fileio.exists(base_directory) else []
    paths = (os.path.join(base_directory, str(version)) for version in versions)
    return next((path for path in paths if source_of(path) == model_path), None)


def _from_evaluation(input_dict: Artifacts) -> list[str]:
    """Return the paths of model card, protocol and address of the examples in the blessing."""
    folder = artifact_utils.get_single_uri(input_dict[standard_component_specs.MODEL_BLESSING_KEY])
    names = (model_card.JSON_FILE, model_card.MARKDOWN_FILE, PROTOCOL_FILE, EXAMPLES_FILE)
    paths = [os.path.join(folder, name) for name in names]
    return [path for path in paths if fileio.exists(path)]


def _validated(input_dict: Artifacts) -> manifest.Manifest | None:
    """Return the files that the ServingValidator validated; None without its blessing."""
    blessings = input_dict.get(standard_component_specs.INFRA_BLESSING_KEY)
    if not blessings:
        return None
    path = os.path.join(artifact_utils.get_single_uri(blessings), VALIDATED_FILE)
    return manifest.Manifest.model_validate_json(io_utils.read_string_file(path)) if fileio.exists(path) else None


def _signing_key(exec_properties: Properties) -> str | None:
    options = json_utils.loads(exec_properties.get(standard_component_specs.CUSTOM_CONFIG_KEY) or "{}")
    return (options or {}).get("signing_key")


def _versions(base_directory: str) -> list[int]:
    return [int(name.rstrip("/")) for name in fileio.listdir(base_directory) if name.rstrip("/").isdigit()]


def source_of(version_path: str) -> str | None:
    """Return the recorded path of the model artifact that a version is a copy of; None without one.

    Args:
        version_path: Folder of the version.
    """
    path = os.path.join(version_path, _SOURCE_FILE)
    return io_utils.read_string_file(path) if fileio.exists(path) else None


def _clear_partial(base_directory: str) -> None:
    """Remove the files of a killed push. In a bucket, where a rename copies file by file, they include a version."""
    for name in fileio.listdir(base_directory):
        if name.startswith(_PARTIAL_PREFIX):
            partial = name.rstrip("/")
            for left in (partial.removeprefix(_PARTIAL_PREFIX), partial):  # in this order: the latter names the former
                if fileio.exists(os.path.join(base_directory, left)):
                    fileio.rmtree(os.path.join(base_directory, left))
