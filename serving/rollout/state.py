"""State of a rollout on any target: one stable version, and at most one canary.

A target is the place where both are served. It does not keep state: every call reads the servers, so one process or
machine can start a rollout and another can end it.
"""

import dataclasses
from datetime import datetime
from typing import Protocol

from modules.common.errors import SerError


class RolloutError(SerError, RuntimeError):
    """The rollout cannot be changed as requested, or its target failed."""

    code = "rollout.failed"


class UnusablePlace(RolloutError):
    """The address has none of the known forms, or a change lacks the server's models.config."""

    code = "rollout.unusable_place"


class CanaryMissing(RolloutError):
    """The change requires a canary."""

    code = "rollout.no_canary"


class CanaryExists(RolloutError):
    """A second canary cannot start before the first is promoted or aborted."""

    code = "rollout.canary_exists"


class NothingToRollBack(RolloutError):
    """No version is served, or the champion before it is not on record."""

    code = "rollout.nothing_to_roll_back"


class UnusableVersion(RolloutError):
    """The version cannot become the canary."""

    code = "rollout.unusable_version"


class VersionNotVerified(RolloutError):
    """A public key is given, and the files of the version cannot be read from here."""

    code = "rollout.version_not_verified"


class VersionNotLoaded(RolloutError):
    """The version does not exist at the target, or does not load."""

    code = "rollout.version_not_loaded"


class ConcurrentChange(RolloutError):
    """Another process or a person changes the same rollout."""

    code = "rollout.concurrent_change"


class UnusableFile(RolloutError):
    """The server's models.config or the journal cannot be read or written."""

    code = "rollout.unusable_file"


class TargetUnreachable(RolloutError):
    """No server answers at the address, or the credentials for it are missing."""

    code = "rollout.unreachable"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed:
    """One version that takes requests.

    Attributes:
        version: Version of the model, as the registry or the version folder names it.
        percent: Share of the requests without a chosen version that are sent here, 0 to 100.
        since: Time of the deployment, with its time zone; ``None`` where the target does not report it.
    """

    version: str
    percent: int
    since: datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutState:
    """Versions that take requests.

    Attributes:
        stable: The champion; ``None`` before the first deployment.
        canary: The version on trial; ``None`` while there is none.
    """

    stable: Deployed | None
    canary: Deployed | None


class Target(Protocol):
    """Place where the two versions are served."""

    @property
    def name(self) -> str:
        """Name in messages: the endpoint's resource name, or the server's address."""

    def state(self) -> RolloutState:
        """Return the versions that are served now.

        Raises:
            RolloutError: The target cannot be reached, or does not serve a rollout.
        """

    def promote(self) -> RolloutState:
        """Send all requests to the canary, then undeploy the old stable version.

        Raises:
            CanaryMissing: The target has no canary.
            RolloutError: The target refused; the versions that are served have not changed.
        """

    def rollback(self) -> RolloutState:
        """Send all requests back to the stable version, then undeploy the canary.

        Without a canary the previous champion takes the place of the stable version, where it can be had.

        Raises:
            NothingToRollBack: The target has neither a canary nor a previous champion.
            RolloutError: The target refused.
        """

    def abort(self) -> RolloutState:
        """Send all requests to the stable version, then undeploy the canary.

        Raises:
            CanaryMissing: The target has no canary.
            RolloutError: The target refused.
        """
