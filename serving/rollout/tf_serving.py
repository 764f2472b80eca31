"""A rollout on a TF Serving host, or the embedded server, by version labels.

Both versions are loaded, and the labels ``stable`` and ``canary`` distinguish them; callers choose. Both labels always
point to a loaded version, to the same one without a canary, so a request for a label is never refused. A change
is a new configuration over ModelService, and the same in ``models.config``, for the next start. Rules of TF Serving
(``server_core.cc``, release 2.19):

- A label may only point to a version that is loaded. So a version is loaded first, and labelled when GetModelStatus
  reports AVAILABLE.
- Labels move before versions are unloaded, within one configuration.
- A refused configuration is partly applied and kept. So the previous one is sent again.
- A version is loaded after the next poll of the file system, not at once.
- It starts with labels only with ``--allow_version_labels_for_unavailable_models``.
"""

import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from modules.common import addresses
from modules.export import manifest
from serving.rollout.journal import Journal, Role
from serving.rollout.model_server import ModelServer, State
from serving.rollout.models_file import ModelsFile, ServerConfig
from serving.rollout.state import (
    CanaryExists,
    CanaryMissing,
    Deployed,
    NothingToRollBack,
    RolloutError,
    RolloutState,
    UnusablePlace,
    UnusableVersion,
    VersionNotLoaded,
    VersionNotVerified,
)
from serving.rollout.versions import Pruned, clear_removed, list_versions, remove_version

STABLE, CANARY = "stable", "canary"
JOURNAL_SUFFIX = ".rollouts.jsonl"

_POLL_SEC = 0.1

Versions = tuple[int, int | None]
"""Stable version, and canary if there is one."""


class TfServingTarget:
    """A :class:`serving.rollout.state.Target` on TF Serving.

    The state's ``percent`` is the share of requests that name neither version nor label: TF Serving sends them to the
    highest version that is loaded, whatever its label.

    Args:
        address: gRPC address, ``HOST:PORT`` or ``grpcs://HOST:PORT``.
        models_config: Configuration file of the server, which each change rewrites; None only reads the state.
        model: Name of the served model.
        model_base_path: Base path of the server, where it is not the one in the file.
        ca_file: Certificates in PEM to trust over TLS, in place of the system's.
        load_timeout_sec: Longest time for loading a version, in seconds.
        appear_sec: Longest time for finding a version's folder, in seconds; more than the server's poll interval.
    """

    def __init__(
        self,
        address: str,
        *,
        models_config: Path | None = None,
        model: str = "ser",
        model_base_path: Path | None = None,
        ca_file: Path | None = None,
        load_timeout_sec: float = 120.0,
        appear_sec: float = 10.0,
    ) -> None:
        self.name = address
        self._server = ModelServer(address, model=model, ca_file=ca_file)
        self._models_config, self._model = models_config, model
        self._base_path = model_base_path
        self._load_timeout_sec = load_timeout_sec
        self._appear_sec = appear_sec

    def state(self) -> RolloutState:
        """Return the state of the server; without labels, its highest version is the stable one.

        Raises:
            RolloutError: The server cannot be reached.
        """
        available = self._server.available()
        stable, canary = (self._server.version_of_label(label) for label in (STABLE, CANARY))
        if stable is None:
            stable = max(available, default=None)
        if canary == stable:
            canary = None
        return RolloutState(
            stable=self._deployed("stable", stable, available), canary=self._deployed("canary", canary, available)
        )

    def start_canary(self, version: str, *, stable: str | None = None, public_key: str | None = None) -> RolloutState:
        """Load ``version`` in addition to the stable one, and give it the label ``canary``.

        Args:
            version: Name of a folder below the base path.
            stable: The stable version, where the server has no labels yet and it is not the highest version.
            public_key: Address of the public key that must have signed the version's manifest.

        Raises:
            CanaryExists: The server has a canary.
            UnusableVersion: The version is the stable one, or not a number.
            VersionNotVerified: A public key is given, and the version's files cannot be read from here.
            ManifestError: The version's files are not those of its manifest, or not signed as required.
            VersionNotLoaded: The version does not load; the versions that are served have not changed.
        """

        def plan(state: RolloutState) -> Versions:
            if state.canary is not None:
                raise CanaryExists(
                    f"{self.name} has a canary, version {state.canary.version}: promote or abort it first"
                )
            if stable is not None and self._server.version_of_label(STABLE) is not None:
                raise UnusableVersion(f"{self.name} has a stable version; name one only where there is none")
            champion = stable or (state.stable.version if state.stable else None)
            if champion is None:
                raise UnusableVersion(f"{self.name} serves no version that could be stable; name a stable version")
            if version == champion:
                raise UnusableVersion(
                    f"version {version} is the stable one on {self.name}; without labels that is the highest version. "
                    "Name the canary's version, or which one is stable"
                )
            self._verify(_number(version), public_key)
            return _number(champion), _number(version)

        return self._change("canary", plan)

    def promote(self) -> RolloutState:
        """See :meth:`serving.rollout.state.Target.promote`."""
        return self._change("promote", lambda state: (_number(self._canary_of(state)), None))

    def abort(self) -> RolloutState:
        """See :meth:`serving.rollout.state.Target.abort`."""

        def plan(state: RolloutState) -> Versions:
            self._canary_of(state)
            return self._stable_of(state), None

        return self._change("abort", plan)

    def rollback(self) -> RolloutState:
        """See :meth:`serving.rollout.state.Target.rollback`; the previous champion is the journal's."""

        def plan(state: RolloutState) -> Versions:
            stable = self._stable_of(state)
            if state.canary is not None:
                return stable, None
            previous = self._journal.champion_before(str(stable))
            if previous is None:
                raise NothingToRollBack(
                    f"{self.name} has no canary, and no stable version before {stable} is on record: nothing to roll "
                    "back to. `canary VERSION`, then `promote`, brings any version back"
                )
            return _number(previous), None

        return self._change("rollback", plan)

    def prune(self, *, keep: int, remove: bool) -> Pruned:
        """Remove old versions from the base path: all but those that are in use or may be again.

        Args:
            keep: Number of the newest versions to keep in any case.
            remove: Whether to remove them; otherwise they are only listed.

        Returns:
            The kept versions with reasons, and the others.

        Raises:
            UnusablePlace: The base path cannot be read from here.
            RolloutError: The server cannot be reached, or another rollout changes it.
            OSError: A file cannot be removed.
        """
        with self._journal.locked() if remove else nullcontext():
            file = self._file.read()
            base_path = str(self._base_path or self._file.base_path(file))
            if not addresses.is_folder(base_path):
                raise UnusablePlace(
                    f"the folder of versions {base_path} cannot be read from here; run the command where it "
                    "can be read, or name it with --model-base-path"
                )
            versions = list_versions(base_path)
            kept = {number: why for number, why in self._used(file, versions, keep).items() if number in versions}
            pruned = Pruned(
                base_path=base_path, kept=kept, removed=tuple(number for number in versions if number not in kept)
            )
            if remove:
                clear_removed(base_path)
                for number in pruned.removed:
                    remove_version(base_path, number)
            return pruned

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _verify(self, version: int, public_key: str | None) -> None:
        """Compare a version with its manifest, if its folder can be read from here."""
        base_path = str(self._base_path or self._file.base_path(self._file.read()))
        folder = posixpath.join(base_path, str(version))
        if addresses.is_folder(folder):
            manifest.require_intact(folder, public_key=public_key)
        elif public_key:
            raise VersionNotVerified(
                f"{folder} cannot be read from here, and --public-key requires its manifest; run the command where the "
                "folder can be read, or leave the option out"
            )

    def _used(self, file: ServerConfig, versions: Sequence[int], keep: int) -> dict[int, str]:
        """Return the versions that must stay, with the strongest reason for each."""
        state = self.state()
        reasons = dict.fromkeys(versions[-keep:], f"among the {keep} newest")
        if state.stable is not None:
            stable = _number(state.stable.version)
            reasons |= {number: "newer than the stable version" for number in versions if number > stable}
            if previous := self._journal.champion_before(state.stable.version):
                reasons[_number(previous)] = "previous stable version"
        reasons |= dict.fromkeys(self._file.versions(file), "in models.config")
        statuses = self._server.statuses()
        reasons |= {number: "loaded" for number, status in statuses.items() if status.state != State.END}
        labels = self._file.labels(file)
        labels |= {label: number for label in (STABLE, CANARY) if (number := self._server.version_of_label(label))}
        return reasons | {number: f"label {label}" for label, number in sorted(labels.items())}

    @property
    def _file(self) -> ModelsFile:
        return ModelsFile(self._required_models_config, self._model)

    @property
    def _journal(self) -> Journal:
        config = self._required_models_config
        return Journal(config.with_name(config.name + JOURNAL_SUFFIX))

    @property
    def _required_models_config(self) -> Path:
        if self._models_config is None:
            raise UnusablePlace(
                f"a change at {self.name} rewrites the models.config that the server starts from; name it with "
                "--models-config"
            )
        return self._models_config

    def _deployed(self, role: Role, version: int | None, available: list[int]) -> Deployed | None:
        if version is None:
            return None
        since = self._journal.since(role, str(version)) if self._models_config else None
        return Deployed(
            version=str(version), percent=100 if version == max(available, default=None) else 0, since=since
        )

    def _canary_of(self, state: RolloutState) -> str:
        if state.canary is None:
            served = f"version {state.stable.version} alone" if state.stable else "nothing"
            raise CanaryMissing(f"{self.name} has no canary; it serves {served}. Start one with `canary VERSION`")
        return state.canary.version

    def _stable_of(self, state: RolloutState) -> int:
        if state.stable is None:
            raise RolloutError(f"{self.name} has no stable version")
        return _number(state.stable.version)

    def _change(self, action: str, plan: Callable[[RolloutState], Versions]) -> RolloutState:
        """Apply the versions that ``plan`` returns to the server and its file, or leave both as they were."""
        with self._journal.locked():
            state = self.state()
            stable, canary = plan(state)
            file = self._file.read()
            changed = self._file.with_versions(file, versions=_present(stable, canary), labels=_labels(stable, canary))
            with self._file.prepared(changed) as prepared, self._restored_on_failure(self._served(file, state)) as now:
                self._load(_present(stable, canary), now)
                self._reload(changed)
                self._file.replace(prepared)
            self._journal.append(action=action, stable=str(stable), canary=str(canary) if canary else None)
            self._await_gone(set(_present(stable, canary)))
            return self.state()

    def _served(self, file: ServerConfig, state: RolloutState) -> ServerConfig:
        """Return the server's configuration: the file's, with the server's labels where they differ."""
        if state.stable is None or self._server.version_of_label(STABLE) is None:
            return file
        stable, canary = _number(state.stable.version), _number(state.canary.version) if state.canary else None
        if self._file.labels(file) == _labels(stable, canary):
            return file
        return self._file.with_versions(file, versions=_present(stable, canary), labels=_labels(stable, canary))

    @contextmanager
    def _restored_on_failure(self, config: ServerConfig) -> Iterator[ServerConfig]:
        try:
            yield config
        except BaseException as failure:  # Ctrl-C must not leave half of a change either
            try:
                self._reload(config)
            except RolloutError as error:
                raise RolloutError(f"{failure}; and the configuration before cannot be restored: {error}") from failure
            raise

    def _load(self, versions: Iterable[int], now: ServerConfig) -> None:
        """Load versions in addition to the loaded ones, and return when they answer."""
        before = self._server.statuses()
        available = self._server.available()
        missing = sorted(set(versions) - set(available))
        if not missing:
            return
        labels = self._file.labels(now)
        self._reload(self._file.with_versions(now, versions=[*available, *missing], labels=labels))
        for version in missing:
            failed_before = version in before and before[version].status.error_code != 0
            self._await_available(version, failed_before=failed_before)

    def _await_available(self, version: int, *, failed_before: bool) -> None:
        started = time.monotonic()
        while True:
            waited_sec = time.monotonic() - started
            status = self._server.statuses().get(version)
            state = State.END if status is None else status.state
            if state == State.AVAILABLE:
                return
            if status is not None and state == State.END and status.status.error_code and not failed_before:
                raise VersionNotLoaded(f"version {version} does not load: {status.status.error_message}")
            if state == State.END and waited_sec > self._appear_sec:
                why = status.status.error_message if status is not None else "no such folder below the base path"
                raise VersionNotLoaded(
                    f"{self.name} has not begun to load version {version}: {why or 'the server gives no reason'}"
                )
            if waited_sec > self._load_timeout_sec:
                raise VersionNotLoaded(f"version {version} did not load within {self._load_timeout_sec:g} s")
            time.sleep(_POLL_SEC)

    def _await_gone(self, kept: set[int]) -> None:
        """Wait until the other versions take no more requests, which the server applies at its next poll."""
        started = time.monotonic()
        while set(self._server.available()) - kept and time.monotonic() - started <= self._appear_sec:
            time.sleep(_POLL_SEC)

    def _reload(self, config: ServerConfig) -> None:
        self._server.reload(self._file.with_base_path(config, self._base_path), timeout_sec=self._load_timeout_sec)


def _labels(stable: int, canary: int | None) -> dict[str, int]:
    return {STABLE: stable, CANARY: canary or stable}


def _present(stable: int, canary: int | None) -> list[int]:
    return [stable] if canary is None else [stable, canary]


def _number(version: str) -> int:
    if not version.isdecimal() or int(version) < 1:
        raise UnusableVersion(f"version is {version!r}; TF Serving's versions are whole numbers from 1 on")
    return int(version)
