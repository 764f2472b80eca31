"""What a rollout is, wherever the model is served: one stable version, and at most one canary beside it.

A target is where both are served. It holds no state of its own: every answer is read from what serves the models, so
that a rollout may be begun by one process, or machine, and ended by another.
"""

import dataclasses
from datetime import datetime
from typing import Protocol


class RolloutError(RuntimeError):
    """The rollout cannot be changed as asked; the message names what was seen, what is needed and the next step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed:
    """One version that takes requests.

    Attributes:
        version: Of the model, as the registry or the version folder names it.
        percent: Share of the requests that do not choose a version themselves and are sent here, 0 to 100.
        since: When it was deployed, with its time zone; ``None`` where the target does not tell.
    """

    version: str
    percent: int
    since: datetime | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutState:
    """Which versions take requests.

    Attributes:
        stable: The champion; ``None`` before the first deployment.
        canary: The version on trial; ``None`` while there is none.
    """

    stable: Deployed | None
    canary: Deployed | None


class Target(Protocol):
    """Where the two versions are served."""

    @property
    def name(self) -> str:
        """For messages: the endpoint's resource name, or the server's address."""

    def state(self) -> RolloutState:
        """What is served now.

        Raises:
            RolloutError: The target cannot be reached, or what it serves is no rollout.
        """

    def promote(self) -> RolloutState:
        """The canary takes all requests, and the old stable version is undeployed.

        Raises:
            RolloutError: There is no canary, or the target refused; what was served before still is.
        """

    def rollback(self) -> RolloutState:
        """All requests go back to the stable version, then the canary is undeployed.

        Without a canary the previous champion takes the place of the stable version, where it can be had.

        Raises:
            RolloutError: There is nothing to go back to, or the target refused.
        """

    def abort(self) -> RolloutState:
        """The canary is undeployed; the stable version keeps, or gets back, all requests.

        Raises:
            RolloutError: There is no canary, or the target refused.
        """
