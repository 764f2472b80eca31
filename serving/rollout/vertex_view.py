"""Snapshot of an endpoint and of its model's versions, and the roles derived from it."""

import functools
import re

from google.cloud import aiplatform_v1 as vertex

from serving.rollout.state import ConcurrentChange, Deployed, RolloutError, RolloutState

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
"""Aliases in the registry; :mod:`serving.rollout.vertex` documents them."""

VERSION_LABEL = "pushed_version"

_VERSION_ALIAS = re.compile(r"v([0-9]{1,10})")


class View:
    """Snapshot of endpoint and registry.

    Args:
        endpoint: The endpoint; ``None`` before it is created.
        versions: All versions of the model in the registry.
        model_id: ID of the model in the registry.
    """

    def __init__(self, endpoint: vertex.Endpoint | None, versions: list[vertex.Model], model_id: str) -> None:
        self.endpoint = endpoint
        self._versions = versions
        self._model_id = model_id

    @functools.cached_property
    def split(self) -> dict[str, int]:
        """Percent of the requests by ID of the deployment, without those that get none."""
        traffic = self.endpoint.traffic_split if self.endpoint else {}
        return {deployed_id: percent for deployed_id, percent in traffic.items() if percent}

    @functools.cached_property
    def _deployed(self) -> list[vertex.DeployedModel]:
        """Deployments, oldest version first."""
        return sorted(self.endpoint.deployed_models, key=self.age) if self.endpoint else []

    @property
    def live(self) -> list[vertex.DeployedModel]:
        """Deployments that take requests."""
        return [one for one in self._deployed if one.id in self.split]

    @property
    def idle(self) -> list[vertex.DeployedModel]:
        """Deployments of this model that do not take requests."""
        return [one for one in self._deployed if one.id not in self.split and self._registered_of(one) is not None]

    @property
    def stable(self) -> vertex.DeployedModel | None:
        """Deployment of the champion, or of the version that takes its place.

        Raises:
            RolloutError: More than two versions share the requests.
        """
        if len(self.live) > 2:
            raise RolloutError(
                f"{len(self.live)} versions share the requests, {self.in_words}; leave two at most, in the console "
                "or with `gcloud ai endpoints update --traffic-split`"
            )
        champions = [one for one in self.live if self.is_champion(self.version_of(one))]
        return next(iter([*champions, *self.live]), None)

    @property
    def canary(self) -> vertex.DeployedModel | None:
        """Deployment of the canary."""
        return next((one for one in self.live if self.stable and one.id != self.stable.id), None)

    @property
    def is_promotion_unfinished(self) -> bool:
        """Whether all requests go to a candidate, or to a champion while the previous one is still deployed."""
        if self.stable is None:
            return False
        stable = self.version_of(self.stable)
        return stable == self.holder(CANDIDATE) or (
            self.is_champion(stable) and self.holder(PREVIOUS) in self.versions_of(self.idle)
        )

    @property
    def leftovers(self) -> list[str]:
        """Versions that are deployed, do not take requests and are not about to."""
        return [version for version in self.versions_of(self.idle) if version != self.holder(CANDIDATE)]

    @property
    def former_champion(self) -> str | None:
        """Version that a rollback of the stable one restores."""
        champion = self.holder(CHAMPION)
        if champion is not None and self.stable is not None and champion != self.version_of(self.stable):
            return champion
        return self.holder(PREVIOUS)

    @property
    def state(self) -> RolloutState:
        """State of the rollout."""
        return RolloutState(stable=self._described(self.stable), canary=self._described(self.canary))

    @property
    def in_words(self) -> str:
        """Shares of the requests, for messages."""
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
        """Return the version's folder number; for a foreign deployment, its ID.

        Args:
            deployed: The deployment.
        """
        registered = self._registered_of(deployed)
        return (pushed_version(registered) if registered else None) or deployed.id

    def versions_of(self, several: list[vertex.DeployedModel]) -> list[str]:
        """Return :meth:`version_of` of each deployment.

        Args:
            several: The deployments.
        """
        return [self.version_of(one) for one in several]

    def age(self, deployed: vertex.DeployedModel) -> int:
        """Return a sort key that is larger for newer versions; 0 for a foreign deployment.

        Args:
            deployed: The deployment.
        """
        registered = self._registered_of(deployed)
        return int((pushed_version(registered) if registered else None) or 0)

    def deployments_of(self, version: str) -> list[vertex.DeployedModel]:
        """Return the deployments of a version: several, if a response was lost and Vertex AI chose the ID.

        Args:
            version: The version.
        """
        return [one for one in self._deployed if self.version_of(one) == version]

    def find(self, version: str) -> vertex.DeployedModel | None:
        """Return the deployment of a version; of several, the one that takes requests.

        Args:
            version: The version.
        """
        return max(self.deployments_of(version), key=lambda one: self.split.get(one.id, 0), default=None)

    def deployed(self, version: str, *, live: bool = False) -> vertex.DeployedModel:
        """Return the deployment of a version.

        Args:
            version: The version.
            live: Require that it takes requests.

        Raises:
            ConcurrentChange: The version is not deployed any more.
        """
        deployed = self.find(version)
        if deployed is None or (live and deployed.id not in self.split):
            raise ConcurrentChange(f"version {version} was withdrawn by another push or by hand")
        return deployed

    def share_of(self, version: str) -> int:
        """Return the version's share of the requests in percent.

        Args:
            version: The version.
        """
        deployed = self.find(version)
        return self.split.get(deployed.id, 0) if deployed else 0

    def split_without(self, version: str) -> dict[str, int]:
        """Return the traffic split without a version.

        It is unchanged if the version takes no requests; otherwise the champion, or else another version, takes all.

        Args:
            version: The version.
        """
        deployed = self.find(version)
        if deployed is None or deployed.id not in self.split:
            return self.split
        champion = self.find(self.holder(CHAMPION) or "")
        others = [champion, *self.live, *reversed(self._deployed)]
        rest = [one for one in others if one is not None and one.id != deployed.id]
        return {rest[0].id: 100} if rest else {}

    def registered(self, version: str, *, without: str = "") -> vertex.Model | None:
        """Return the version's entry in the registry, unless it has the alias ``without``.

        Args:
            version: The version.
            without: Alias that the entry must not have.
        """
        entries = entries_of(self._versions, version)
        return next((one for one in entries if without not in one.version_aliases), None)

    def require_registered(self, version: str) -> vertex.Model:
        """Return the version's entry in the registry.

        Args:
            version: The version.

        Raises:
            RolloutError: The registry does not have the version.
        """
        entry = self.registered(version)
        if entry is None:
            raise RolloutError(f"version {version} is not in the registry any more; push the model again")
        return entry

    def holder(self, alias: str) -> str | None:
        """Return the version that has an alias, if any.

        Args:
            alias: The alias.
        """
        for one in self._versions:
            if alias in one.version_aliases:
                return pushed_version(one)
        return None

    def is_stable(self, version: str) -> bool:
        """Return whether a version is the stable one.

        Args:
            version: The version.
        """
        return self.stable is not None and self.version_of(self.stable) == version

    def is_champion(self, version: str) -> bool:
        """Return whether a version is the champion and takes requests.

        Args:
            version: The version.
        """
        return self.holder(CHAMPION) == version and self.share_of(version) > 0


def version_alias(version: str) -> str:
    """Return the alias of a pushed version, unique in its model.

    Args:
        version: The version.
    """
    return f"v{version}"


def pushed_version(entry: vertex.Model) -> str | None:
    """Return the number of the version's folder: from its alias, else from its label.

    Vertex AI merges the labels of a model and of its version into one answer and does not document which of two values
    it returns. An alias belongs to one version.

    Args:
        entry: Entry of the registry.
    """
    matches = (_VERSION_ALIAS.fullmatch(alias) for alias in entry.version_aliases)
    return next((match[1] for match in matches if match), entry.labels.get(VERSION_LABEL))


def entries_of(versions: list[vertex.Model], version: str) -> list[vertex.Model]:
    """Return the entries of one pushed version: two, if two processes uploaded it at once.

    Args:
        versions: Entries of the registry.
        version: The version.
    """
    return [one for one in versions if pushed_version(one) == version]
