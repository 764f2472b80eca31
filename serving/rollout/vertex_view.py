"""What is known of an endpoint and its model's versions at one moment, and what follows from it."""

import functools
import re

from google.cloud import aiplatform_v1 as vertex

from serving.rollout.state import Deployed, RolloutError, RolloutState

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
"""Aliases in the registry; :mod:`serving.rollout.vertex` says what they mean."""

VERSION_LABEL = "pushed_version"

_VERSION_ALIAS = re.compile(r"v([0-9]{1,10})")


class View:
    """Endpoint and registry at one moment."""

    def __init__(self, endpoint: vertex.Endpoint | None, versions: list[vertex.Model], model_id: str) -> None:
        self.endpoint = endpoint
        self._versions = versions
        self._model_id = model_id

    @functools.cached_property
    def split(self) -> dict[str, int]:
        """Percent of the requests by id of deployment, without those that get none."""
        traffic = self.endpoint.traffic_split if self.endpoint else {}
        return {deployed_id: percent for deployed_id, percent in traffic.items() if percent}

    @functools.cached_property
    def _deployed(self) -> list[vertex.DeployedModel]:
        """Oldest version first."""
        return sorted(self.endpoint.deployed_models, key=self.age) if self.endpoint else []

    @property
    def live(self) -> list[vertex.DeployedModel]:
        """What takes requests."""
        return [one for one in self._deployed if one.id in self.split]

    @property
    def idle(self) -> list[vertex.DeployedModel]:
        """What was deployed of this model, and takes none."""
        return [one for one in self._deployed if one.id not in self.split and self._registered_of(one) is not None]

    @property
    def stable(self) -> vertex.DeployedModel | None:
        """The champion, or whatever takes its place."""
        if len(self.live) > 2:
            raise RolloutError(
                f"{len(self.live)} versions share the requests, {self.in_words}; leave two at most, in the console "
                "or with `gcloud ai endpoints update --traffic-split`"
            )
        champions = [one for one in self.live if self.is_champion(self.version_of(one))]
        return next(iter([*champions, *self.live]), None)

    @property
    def canary(self) -> vertex.DeployedModel | None:
        """What is on trial."""
        return next((one for one in self.live if self.stable and one.id != self.stable.id), None)

    @property
    def is_promotion_unfinished(self) -> bool:
        """All requests go to a candidate, or to a champion while the one before it is still deployed."""
        if self.stable is None:
            return False
        stable = self.version_of(self.stable)
        return stable == self.holder(CANDIDATE) or (
            self.is_champion(stable) and self.holder(PREVIOUS) in self.versions_of(self.idle)
        )

    @property
    def leftovers(self) -> list[str]:
        """Versions that are deployed, take no requests and are not about to."""
        return [version for version in self.versions_of(self.idle) if version != self.holder(CANDIDATE)]

    @property
    def former_champion(self) -> str | None:
        """The version that a rollback of the stable one leads to."""
        champion = self.holder(CHAMPION)
        if champion is not None and self.stable is not None and champion != self.version_of(self.stable):
            return champion
        return self.holder(PREVIOUS)

    @property
    def state(self) -> RolloutState:
        """As people see it."""
        return RolloutState(stable=self._described(self.stable), canary=self._described(self.canary))

    @property
    def in_words(self) -> str:
        """Who takes the requests, for messages."""
        shares = [f"version {self.version_of(one)} takes {self.split[one.id]} % of the requests" for one in self.live]
        return " and ".join(shares) or "nothing is served"

    def _described(self, deployed: vertex.DeployedModel | None) -> Deployed | None:
        if deployed is None:
            return None
        return Deployed(
            version=self.version_of(deployed), percent=self.split[deployed.id], since=deployed.create_time or None
        )

    def _registered_of(self, deployed: vertex.DeployedModel) -> vertex.Model | None:
        model_id = deployed.model.rpartition("/")[2].partition("@")[0]
        if model_id != self._model_id:
            return None
        return next((one for one in self._versions if one.version_id == deployed.model_version_id), None)

    def version_of(self, deployed: vertex.DeployedModel) -> str:
        """The number of its folder; for what something else deployed, the id of its deployment."""
        registered = self._registered_of(deployed)
        return (pushed_version(registered) if registered else None) or deployed.id

    def versions_of(self, several: list[vertex.DeployedModel]) -> list[str]:
        """As :meth:`version_of`."""
        return [self.version_of(one) for one in several]

    def age(self, deployed: vertex.DeployedModel) -> int:
        """Larger for a newer version, 0 for what something else deployed."""
        registered = self._registered_of(deployed)
        return int((pushed_version(registered) if registered else None) or 0)

    def deployments_of(self, version: str) -> list[vertex.DeployedModel]:
        """Its deployments: several, if an answer was lost and Vertex AI chose the id."""
        return [one for one in self._deployed if self.version_of(one) == version]

    def find(self, version: str) -> vertex.DeployedModel | None:
        """Its deployment; of several, the one that takes requests."""
        return max(self.deployments_of(version), key=lambda one: self.split.get(one.id, 0), default=None)

    def deployed(self, version: str, *, live: bool = False) -> vertex.DeployedModel:
        """Its deployment.

        Raises:
            RolloutError: There is none, or none that takes requests.
        """
        found = self.find(version)
        if found is None or (live and found.id not in self.split):
            raise RolloutError(f"version {version} was withdrawn during the rollout, by another push or by somebody")
        return found

    def share_of(self, version: str) -> int:
        """Percent of the requests."""
        found = self.find(version)
        return self.split.get(found.id, 0) if found else 0

    def split_without(self, version: str) -> dict[str, int]:
        """The traffic as it is if this version has none; otherwise all for the champion, or for what else there is."""
        found = self.find(version)
        if found is None or found.id not in self.split:
            return self.split
        champion = self.find(self.holder(CHAMPION) or "")
        others = [champion, *self.live, *reversed(self._deployed)]
        rest = [one for one in others if one is not None and one.id != found.id]
        return {rest[0].id: 100} if rest else {}

    def registered(self, version: str, *, without: str = "") -> vertex.Model | None:
        """Its entry in the registry, if that has not the alias ``without``."""
        found = entries_of(self._versions, version)
        return next((one for one in found if without not in one.version_aliases), None)

    def require_registered(self, version: str) -> vertex.Model:
        """Its entry in the registry.

        Raises:
            RolloutError: There is none.
        """
        found = self.registered(version)
        if found is None:
            raise RolloutError(f"version {version} is not in the registry any more; push the model again")
        return found

    def holder(self, alias: str) -> str | None:
        """The version that has an alias."""
        for one in self._versions:
            if alias in one.version_aliases:
                return pushed_version(one)
        return None

    def is_stable(self, version: str) -> bool:
        """Whether it is the stable version."""
        return self.stable is not None and self.version_of(self.stable) == version

    def is_champion(self, version: str) -> bool:
        """Whether it is the champion, and takes requests."""
        return self.holder(CHAMPION) == version and self.share_of(version) > 0


def version_alias(version: str) -> str:
    """Alias of a pushed version, unique in its model."""
    return f"v{version}"


def pushed_version(entry: vertex.Model) -> str | None:
    """Return the number of the version's folder: from its alias, else from its label.

    Vertex AI merges the labels of a model and of its version into one answer and does not document which of two values
    it returns. An alias belongs to one version.
    """
    named = (_VERSION_ALIAS.fullmatch(alias) for alias in entry.version_aliases)
    return next((found[1] for found in named if found), entry.labels.get(VERSION_LABEL))


def entries_of(versions: list[vertex.Model], version: str) -> list[vertex.Model]:
    """Entries of one pushed version; two, where two processes uploaded it at once."""
    return [one for one in versions if pushed_version(one) == version]
