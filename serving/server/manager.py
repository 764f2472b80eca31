"""Loading of versions by folders and configuration, without downtime for the callers."""

import asyncio
import dataclasses
import logging
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, status_pb2
from tensorflow_serving.config import model_server_config_pb2

from modules.common.errors import SerError
from serving.server import memory
from serving.server.errors import StatusError, invalid, not_found
from serving.server.metrics import Metrics
from serving.server.servable import Servable

_LOG = logging.getLogger(__name__)

_State = get_model_status_pb2.ModelVersionStatus.State
_MAX_LOAD_ATTEMPTS = 6
_VERSION_FOLDER = re.compile(r"(\d+)/?")


@dataclasses.dataclass
class _History:
    """History of a version, loaded or not."""

    state: int = _State.START
    error: str = ""
    failed_attempts: int = 0
    retry_at: float = 0.0

    @property
    def may_load(self) -> bool:
        """Whether to load the version now: not loaded or unloading, and failures retried with exponential backoff."""
        if self.state not in (_State.START, _State.END):
            return False
        return self.failed_attempts < _MAX_LOAD_ATTEMPTS and time.monotonic() >= self.retry_at


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A loaded version, with the thread that loaded it.

    The thread ends with the version. While it lives, glibc gives its arena to no other thread, up to eight arenas a
    core, so that no other version is loaded into it. Blocks of two versions on one page would keep each other's page in
    memory.
    """

    servable: Servable
    thread: ThreadPoolExecutor


class ServedModel:
    """Versions of one model.

    Args:
        config: Configuration of the model.
        metrics: Metrics of the server.
        poll_sec: Interval of the polls of the file system, in seconds.
        public_key: Address of the public key that must have signed each version.
    """

    def __init__(
        self, config: model_server_config_pb2.ModelConfig, metrics: Metrics, poll_sec: float, public_key: str | None
    ) -> None:
        self.config = config
        self._metrics = metrics
        self._poll_sec = poll_sec
        self._public_key = public_key
        self._histories: dict[int, _History] = {}
        self._ready: dict[int, _Ready] = {}
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def ready_versions(self) -> list[int]:
        """Loaded versions, lowest first."""
        return sorted(self._ready)

    def servable(self, spec: model_pb2.ModelSpec) -> Servable:
        """Return the version that ``spec`` names; the newest if it names none.

        Args:
            spec: Model with an optional version or label.

        Raises:
            StatusError: The version is not loaded.
        """
        requested = self._requested_version(spec)
        number = max(self._ready, default=None) if requested is None else requested
        if number not in self._ready:
            version = "" if requested is None else f" version {requested}"
            raise not_found(
                f"model {self.config.name!r}{version} is not loaded; loaded versions are {self.ready_versions}"
            )
        return self._ready[number].servable

    def status(self, spec: model_pb2.ModelSpec) -> Iterable[get_model_status_pb2.ModelVersionStatus]:
        """Yield the state of the version that ``spec`` names, or of all versions, newest first.

        Args:
            spec: Model with an optional version; TF Serving ignores a label here.

        Raises:
            StatusError: The version does not exist.
        """
        requested = spec.version.value if spec.HasField("version") else None
        if requested is not None and requested not in self._histories:
            raise not_found(f"model {self.config.name!r} has no version {requested}; it has {sorted(self._histories)}")
        for number in [requested] if requested is not None else sorted(self._histories, reverse=True):
            history = self._histories[number]
            code = grpc.StatusCode.UNKNOWN.value[0] if history.error else grpc.StatusCode.OK.value[0]
            status = status_pb2.StatusProto(error_code=code, error_message=history.error)
            yield get_model_status_pb2.ModelVersionStatus(version=number, state=history.state, status=status)

    async def reconcile(self) -> None:
        """Load the configured versions, then unload the others.

        The others stay until a configured version is ready, so that one version always answers.
        """
        configured = await asyncio.to_thread(self._configured_versions)
        for number in configured:
            await self._load(number)
        if set(configured) & set(self._ready):
            for number in set(self._ready) - set(configured):
                self._unload(number)

    async def remove(self) -> None:
        """Unload all versions, and wait until they are unloaded."""
        for number in list(self._ready):
            self._unload(number)
        await asyncio.gather(*self._unloading)

    def _requested_version(self, spec: model_pb2.ModelSpec) -> int | None:
        if spec.HasField("version"):
            return spec.version.value
        if not spec.version_label:
            return None
        labels = self.config.version_labels
        if spec.version_label not in labels:
            raise invalid(
                f"model {self.config.name!r} has no label {spec.version_label!r}; it has {sorted(labels) or 'none'}"
            )
        return labels[spec.version_label]

    def _configured_versions(self) -> list[int]:
        base_path = self.config.base_path
        names = tf.io.gfile.listdir(base_path) if tf.io.gfile.isdir(base_path) else []
        numbers = sorted(int(match[1]) for match in map(_VERSION_FOLDER.fullmatch, names) if match)
        whole = [number for number in numbers if tf.io.gfile.exists(f"{base_path}/{number}/saved_model.pb")]
        policy = self.config.model_version_policy
        if policy.HasField("all"):
            return whole
        if policy.HasField("specific"):
            return [number for number in whole if number in policy.specific.versions]
        return whole[-(policy.latest.num_versions or 1) :]

    async def _load(self, number: int) -> None:
        history = self._histories.setdefault(number, _History())
        if not history.may_load:
            return
        history.state, history.error = _State.LOADING, ""
        path = f"{self.config.base_path}/{number}"
        started = time.perf_counter()
        thread = ThreadPoolExecutor(1, f"load-{number}")
        arguments = (self.config.name, number, path, self._public_key)
        try:
            servable, warmups = await asyncio.get_running_loop().run_in_executor(thread, load_warm, *arguments)
        except Exception as error:  # loaders raise any kind; other versions are served on
            thread.shutdown(wait=False)
            self._note_failure(history, path, error)
            return
        self._ready[number] = _Ready(servable, thread)
        history.state = _State.AVAILABLE
        elapsed_sec = time.perf_counter() - started
        self._metrics.load_attempt_count.labels(path, "success").inc()
        self._metrics.load_latency.labels(path).inc(elapsed_sec * 1e6)
        _LOG.info("loaded %s in %.1f s, %d warm-up requests", path, elapsed_sec, warmups)

    def _note_failure(self, history: _History, path: str, error: Exception) -> None:
        history.failed_attempts += 1
        history.retry_at = time.monotonic() + self._poll_sec * 2**history.failed_attempts
        history.state, history.error = _State.END, _reason(error)
        self._metrics.load_attempt_count.labels(path, "fail").inc()
        attempt = history.failed_attempts
        _LOG.error("cannot load %s (attempt %d of %d): %s", path, attempt, _MAX_LOAD_ATTEMPTS, history.error)

    def _unload(self, number: int) -> None:
        """Send no more requests to the version, and unload it when the last one is answered."""
        self._histories[number].state = _State.UNLOADING
        task = asyncio.create_task(self._unload_when_idle(number, self._ready.pop(number)))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _unload_when_idle(self, number: int, version: _Ready) -> None:
        await version.servable.close_when_idle()
        version.thread.shutdown(wait=False)
        del version
        self._histories[number] = _History(state=_State.END)  # from here on it can be loaded again
        await asyncio.to_thread(memory.give_back)
        _LOG.info("unloaded %s/%d", self.config.base_path, number)


class ModelManager:
    """All models of a server.

    Args:
        metrics: Metrics of the server.
        poll_sec: Interval of the polls of the file system, in seconds.
        public_key: Address of the public key that must have signed each version.
    """

    def __init__(self, metrics: Metrics, *, poll_sec: float, public_key: str | None = None) -> None:
        self._metrics = metrics
        self._poll_sec = poll_sec
        self._public_key = public_key
        self._models: dict[str, ServedModel] = {}
        self._changing = asyncio.Lock()

    def has_model(self, name: str) -> bool:
        """Return whether the server has a model of this name.

        Args:
            name: Name of the model.
        """
        return name in self._models

    def model(self, name: str) -> ServedModel:
        """Return the model of this name.

        Args:
            name: Name of the model.

        Raises:
            StatusError: The server does not have the model.
        """
        if name not in self._models:
            raise not_found(f"no model {name!r}; this server has {', '.join(sorted(self._models)) or 'none'}")
        return self._models[name]

    async def apply(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Serve ``config`` and nothing else; return when its versions are loaded.

        Args:
            config: The whole configuration.

        Raises:
            StatusError: The configuration is invalid, and nothing has changed; or a model has no version that loads, or
                a label points to a version that is not loaded.
        """
        models = _checked(config)
        async with self._changing:
            for name in set(self._models) - set(models):
                await self._models.pop(name).remove()
            for name, model_config in models.items():
                if name in self._models:
                    self._models[name].config = model_config
                else:
                    self._models[name] = ServedModel(model_config, self._metrics, self._poll_sec, self._public_key)
                await self._models[name].reconcile()
        self._require_complete()

    async def poll(self) -> None:
        """Check for new and removed versions until cancelled."""
        while True:
            await asyncio.sleep(self._poll_sec)
            async with self._changing:
                for model in self._models.values():
                    try:
                        await model.reconcile()
                    except (OSError, tf.errors.OpError) as error:
                        _LOG.warning("cannot list the versions in %s: %s", model.config.base_path, error)

    def _require_complete(self) -> None:
        for name, model in self._models.items():
            if not model.ready_versions:
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"model {name!r} has no version that loads in {model.config.base_path}; a version is a folder "
                    "with a number for a name and a SavedModel in it",
                )
            for label, number in model.config.version_labels.items():
                if number not in model.ready_versions:
                    raise StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"label {label!r} of model {name!r} points to version {number}, which is not loaded; loaded "
                        f"versions are {model.ready_versions}",
                    )


def load_warm(model_name: str, number: int, path: str, public_key: str | None = None) -> tuple[Servable, int]:
    """Load a version and run its warm-up requests; return it with their number.

    Args:
        model_name: Name of the model.
        number: Number of the version.
        path: Folder of the version.
        public_key: Address of the public key that must have signed the version.

    Raises:
        ManifestError: The files are not those of the version's manifest, or not signed as required.
    """
    servable = Servable(model_name, number, path, public_key=public_key)
    return servable, servable.warm_up()


def _reason(error: Exception) -> str:
    """Return the text of an error, behind its code if it has one."""
    return f"{error.code}: {error}" if isinstance(error, SerError) else str(error)


def _checked(
    config: model_server_config_pb2.ModelServerConfig,
) -> dict[str, model_server_config_pb2.ModelConfig]:
    models = {model.name: model for model in config.model_config_list.config}
    if not models or len(models) != len(config.model_config_list.config):
        raise invalid("the configuration must name at least one model, and each once")
    for name, model in models.items():
        if not name or not model.base_path or model.model_platform not in ("", "tensorflow"):
            raise invalid(
                f"model {name!r} has base_path {model.base_path!r} and model_platform {model.model_platform!r}; a name "
                "and a base_path are needed, and the platform must be 'tensorflow'"
            )
    return models
