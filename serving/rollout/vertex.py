"""Rollout on a Vertex AI endpoint: aliases in the registry give the role of a version, the traffic split its share.

======================  ===============================================================================================
alias ``candidate``     the newest pushed version without another role
alias ``champion``      the last accepted version: the first one, or one that was promoted
alias ``previous``      the champion before it, which a rollback restores
======================  ===============================================================================================

A version is deployed without traffic first, and undeployed without traffic last; in between, only `UpdateEndpoint`
moves traffic, with the etag of the endpoint as it was read. So two processes cannot overwrite each other's decision,
and Vertex itself refuses to undeploy a version that another process has just given traffic. Every step reads the state
before it changes anything: a step whose response was lost, or a push that was killed, can be repeated. Of two
simultaneous pushes the newer version stays; the other fails and is undone.

The name of a version is the number of its folder. In the registry it is the alias ``v<version>`` and a label. On the
endpoint it is the name and the ID of the deployment, so Vertex does not deploy it twice. RawPredict returns that ID.
Where Vertex refuses the caller's ID, it chooses one, and the registry maps that to the version.
"""

import contextlib
import dataclasses
import posixpath
from collections.abc import Callable, Mapping
from typing import Literal

from google.api_core import exceptions, retry
from google.cloud import aiplatform_v1 as vertex

from serving.client.errors import ServingError
from serving.google_cloud import cloud_errors, error_text
from serving.rollout.state import (
    CanaryMissing,
    ConcurrentChange,
    NothingToRollBack,
    RolloutError,
    RolloutState,
    TargetUnreachable,
)
from serving.rollout.vertex_api import DEFAULT, Endpoint, Registry
from serving.rollout.vertex_view import (
    CANDIDATE,
    CHAMPION,
    PREVIOUS,
    VERSION_LABEL,
    View,
    entries_of,
    version_alias,
)

MODEL_NAME = "ser"
"""Name of the model in TF Serving: requests contain it, and the routes follow from it."""

EndpointKind = Literal["dedicated", "shared"]

_REST_PORT = 8501
_HEALTH_ROUTE = f"/v1/models/{MODEL_NAME}"
# The period must be less than the timeout, by the reference of Probe.
_PROBE_PERIOD_SEC, _PROBE_TIMEOUT_SEC = 5, 10
_START_PROBES = 60

# Vertex AI registers no model without a container. Without one of the caller's, this one of Google's is
# the placeholder; every project may use it. It is not deployed: a push to an endpoint registers the version again.
_PREBUILT_IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
_REGISTERED_ONLY_LABEL = "registered_only"

# For steps that read before they act. ABORTED: the endpoint changed since it was read; ALREADY_EXISTS: another process
# has created the endpoint or the model since.
_again = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable, exceptions.Aborted, exceptions.AlreadyExists),
    initial=0.5,
    maximum=10,
    timeout=120,
)


class PushFailed(RolloutError):
    """A version could not be pushed, and nothing of it remains in the registry or on the endpoint."""

    code = "rollout.push_failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """Version to push.

    Attributes:
        version: The number of its folder, at most ten digits.
        artifact_uri: The parent of that folder, which contains nothing else.
        source: URI of the original model.
        labels: Labels for the registry, in addition to the version's own.
    """

    version: str
    artifact_uri: str
    source: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosting:
    """Settings of a deployment.

    Attributes:
        image: Image of ``serving/container`` in Artifact Registry; its entrypoint reads Vertex's variables.
        kind: Kind of the endpoint; an existing one must be of this kind.
        machine_type: Machine type of the replicas.
        min_replicas: Smallest number of replicas.
        max_replicas: Largest number of replicas.
        canary_percent: Share of the requests for a new version while there is a stable one; 100 replaces that one.
        request_log: BigQuery table, ``bq://PROJECT.DATASET.TABLE``, for a sample of the requests; ``None`` logs none.
        request_log_rate: Share of the requests in that sample, 0 to 1.
        labels: Labels of a new endpoint.
    """

    image: str
    kind: EndpointKind
    machine_type: str
    min_replicas: int
    max_replicas: int
    canary_percent: int
    request_log: str | None = None
    request_log_rate: float = 0.0
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


Smoke = Callable[[str, int], None]
"""Test of a new version, given the endpoint's address for clients and the version's share of the requests in percent.

It raises :class:`RolloutError` or :class:`serving.client.errors.ServingError` if the version must not stay.
"""


class VertexTarget:
    """A :class:`serving.rollout.state.Target` on Vertex AI."""

    def __init__(self, *, project: str, region: str, endpoint: str, model_id: str) -> None:
        """Connect to Vertex AI.

        Args:
            project: Google Cloud project.
            region: Region of the endpoint and of the registry.
            endpoint: Display name or ID of the endpoint.
            model_id: ID of the model in the registry.

        Raises:
            TargetUnreachable: Credentials are missing.
        """
        self._project, self._region = project, region
        with self._cloud_errors():
            self._endpoint = Endpoint(project, region, endpoint)
            self._registry = Registry(project, region, model_id)

    @property
    def name(self) -> str:
        """The endpoint's resource name."""
        return self._endpoint.name

    @property
    def address(self) -> str:
        """Address of the endpoint for clients."""
        return f"vertex://{self._project}/{self._region}/{self.name.rpartition('/')[2]}"

    def state(self) -> RolloutState:
        """Return the versions that take requests; none before the endpoint exists.

        Raises:
            RolloutError: Vertex AI refuses the calls.
        """
        with self._cloud_errors():
            return self._snapshot().state

    def stable_model_dir(self) -> str:
        """Return the address of the stable version's SavedModel.

        Raises:
            RolloutError: No version is served, or the registry does not have it.
        """
        with self._cloud_errors():
            view = self._snapshot()
            if view.stable is None:
                raise RolloutError(f"{self.name} serves no version; push a model first")
            version = view.version_of(view.stable)
            return posixpath.join(view.require_registered(version).artifact_uri, version)

    def push(self, candidate: Candidate, hosting: Hosting, smoke: Smoke) -> RolloutState:
        """Register a version, deploy it, give it its share of the requests, and test it.

        On an empty endpoint it becomes the champion, otherwise the canary, which replaces an earlier canary. The
        current champion is not changed.

        Args:
            candidate: The version.
            hosting: Settings of the deployment.
            smoke: Test of the deployed version.

        Raises:
            PushFailed: The push failed and was undone.
            RolloutError: The push failed, and the message names what remains.
        """
        with self._cloud_errors():
            before = self._snapshot()
            if before.is_champion(candidate.version):
                return self._clean_up()
            registered = before.registered(candidate.version)
            self._require_same(registered, candidate)
            existed = before.registered(candidate.version, without=CANDIDATE) is not None
            try:
                self._ensure_endpoint(hosting)
                if registered is not None and _REGISTERED_ONLY_LABEL in registered.labels:
                    self._delete(candidate.version)
                self._upload(candidate, hosting)
                self._deploy(candidate.version, _machines(hosting))
                percent = self._start_trial(candidate.version, hosting.canary_percent)
                smoke(self.address, percent)
                self._require_traffic(candidate.version)
            except Exception as error:  # upload, smoke test or cloud: whatever failed, the push is undone
                raise self._undo_push(candidate.version, existed, error) from error
            if self._snapshot().is_stable(candidate.version):
                self._mark_champion(candidate.version)
            else:  # a simultaneous push, now failed, may have taken the alias
                self._merge_aliases(candidate.version, [CANDIDATE])
            return self._clean_up()

    def register(self, candidate: Candidate) -> None:
        """Register a version without deploying it. A registered version is not changed.

        Args:
            candidate: The version.

        Raises:
            PushFailed: The version could not be registered, and nothing of it remains.
            RolloutError: The version could not be registered, and the message names what remains.
        """
        with self._cloud_errors():
            registered = self._snapshot().registered(candidate.version)
            self._require_same(registered, candidate)
            if registered is not None:
                return
            try:
                self._upload(candidate, None)
            except exceptions.GoogleAPIError as error:
                raise self._undo_push(candidate.version, existed=False, error=error) from error

    def promote(self) -> RolloutState:
        """Send all requests to the canary, make it the champion, and undeploy the old stable version.

        A repeated call completes an interrupted one.

        Raises:
            CanaryMissing: The endpoint has no canary.
            RolloutError: Vertex AI refuses the calls.
        """
        with self._cloud_errors():
            view = self._snapshot()
            promoted = view.canary or view.stable
            if promoted is None or not (view.canary or view.is_promotion_unfinished):
                raise CanaryMissing(f"nothing to promote: {self.name} has no canary, {view.in_words}")
            version = view.version_of(promoted)
            self._set_traffic(lambda now: {now.deployed(version, live=True).id: 100})
            self._mark_champion(version)
            return self._clean_up()

    def abort(self) -> RolloutState:
        """Send all requests to the stable version and undeploy the canary.

        A repeated call completes an interrupted one.

        Raises:
            CanaryMissing: The endpoint has no canary.
            RolloutError: Vertex AI refuses the calls.
        """
        with self._cloud_errors():
            view = self._snapshot()
            canary = view.version_of(view.canary) if view.canary else view.holder(CANDIDATE)
            if canary is None or (view.share_of(canary) and not view.split_without(canary)):
                raise CanaryMissing(f"nothing to abort: {self.name} has no canary, {view.in_words}")
            return self._withdraw(canary)

    def rollback(self) -> RolloutState:
        """Withdraw the canary; without one, restore the previous champion, and deploy it again if necessary.

        A repeated call completes an interrupted one.

        Raises:
            NothingToRollBack: No version is served, or the registry has no previous champion.
            RolloutError: Vertex AI refuses the calls.
        """
        with self._cloud_errors():
            view = self._snapshot()
            if view.canary:
                return self._withdraw(view.version_of(view.canary))
            if view.stable is None:
                raise NothingToRollBack(f"nothing to roll back: no version is served on {self.name}")
            bad, good = view.version_of(view.stable), view.former_champion
            if good is None and view.leftovers:
                return self._clean_up(also=view.leftovers)
            if good is None:
                raise NothingToRollBack(
                    f"nothing to roll back to: the registry has no champion before version {bad}; push another model"
                )
            self._replace(bad, good, view.stable)
            return self._clean_up(also=[bad])

    def _replace(self, bad: str, good: str, like: vertex.DeployedModel) -> None:
        """Move the aliases first, so that a repeated call after an interruption restores the same version."""
        machines = vertex.DeployedModel(
            dedicated_resources=like.dedicated_resources, service_account=like.service_account
        )
        self._deploy(good, machines)
        self._merge_aliases(good, [CHAMPION, DEFAULT], drop=PREVIOUS)

        def choose(now: View) -> dict[str, int]:
            if {now.version_of(one) for one in now.live} - {bad, good}:
                raise ConcurrentChange(
                    f"the rollout on {self.name} changed during this rollback: {now.in_words}; try again"
                )
            return {now.deployed(good).id: 100}

        self._set_traffic(choose)

    def _withdraw(self, version: str) -> RolloutState:
        self._set_traffic(lambda now: now.split_without(version))
        self._undeploy_version(version)
        self._merge_aliases(version, [], drop=CANDIDATE)
        return self._snapshot().state

    def _undo_push(self, version: str, existed: bool, error: Exception) -> RolloutError:
        """Undo a push, and return an error with the result.

        Args:
            version: The version of the push.
            existed: The version was in the registry before this push, and not as a result of an unfinished push.
            error: Reason of the failure.
        """
        try:
            if self._snapshot().is_champion(version):
                return RolloutError(f"version {version} was promoted during the test, and stays: {_error_text(error)}")
            self._set_traffic(lambda now: now.split_without(version))
            self._undeploy_version(version)
            if existed:
                self._merge_aliases(version, [], drop=CANDIDATE)
            else:
                self._delete(version)
            self._clean_up()
        except (exceptions.GoogleAPIError, RolloutError) as second:
            return RolloutError(
                f"version {version} could not be pushed to {self.name}: {_error_text(error)}\n"
                f"Taking it back failed too: {_error_text(second)}\n"
                "Push the model again, which goes on from there, or check `ser rollout status`"
            )
        text = f"version {version} could not be pushed to {self.name} and was taken back: {_error_text(error)}"
        return RolloutError(text) if existed else PushFailed(text)

    # The steps. Each reads the state, then does what remains to be done.

    @_again
    def _snapshot(self) -> View:
        return View(self._endpoint.get(), self._registry.versions(), self._registry.model_id)

    @_again
    def _ensure_endpoint(self, hosting: Hosting) -> None:
        endpoint = self._endpoint.get()
        if endpoint is None:
            self._endpoint.create(hosting.labels, dedicated=hosting.kind == "dedicated", logging=_logging(hosting))
            return
        kind: EndpointKind = "dedicated" if endpoint.dedicated_endpoint_enabled else "shared"
        if kind != hosting.kind:
            raise RolloutError(
                f"{self.name} is a {kind} endpoint and vertex.endpoint.kind is {hosting.kind}; set "
                f"vertex.endpoint.kind={kind}, or vertex.endpoint.name to the name of a new endpoint"
            )
        wanted, current = _logging(hosting), endpoint.predict_request_response_logging_config
        if wanted.enabled != current.enabled or (wanted.enabled and wanted != current):
            self._endpoint.set_logging(wanted, etag=endpoint.etag)

    @_again
    def _upload(self, candidate: Candidate, hosting: Hosting | None) -> None:
        """Upload the version once: of two simultaneous uploads, the later one is deleted."""
        versions = self._registry.versions()
        entries = entries_of(versions, candidate.version)
        if not entries:
            self._registry.upload(self._model(candidate, hosting), first=not versions)
            entries = entries_of(self._registry.versions(), candidate.version)
        for twin in entries[1:]:
            with contextlib.suppress(exceptions.NotFound):
                self._registry.delete(twin.version_id)
        for kept in entries[:1]:
            missing = {CANDIDATE, version_alias(candidate.version)} - set(kept.version_aliases)
            if missing:
                self._registry.merge_aliases(kept.version_id, sorted(missing))

    def _require_same(self, registered: vertex.Model | None, candidate: Candidate) -> None:
        if registered is not None and registered.version_description != _description(candidate):
            raise ConcurrentChange(
                f"version {candidate.version} of {self._registry.model_id} is another model, not {candidate.source}: "
                "two pushes chose one number; push again"
            )

    def _deploy(self, version: str, machines: vertex.DeployedModel) -> None:
        try:
            self._start(version, machines)
        except exceptions.AlreadyExists:  # an interrupted attempt began it
            self._wait_until_deployed(version)

    @retry.Retry(predicate=retry.if_exception_type(exceptions.ServiceUnavailable), initial=0.5, maximum=10, timeout=120)
    def _start(self, version: str, machines: vertex.DeployedModel) -> None:
        view = self._snapshot()
        if view.find(version) is not None:
            return
        model = self._registry.version_name(view.require_registered(version).version_id)
        deployed = vertex.DeployedModel(machines, display_name=version, model=model)
        try:
            self._endpoint.deploy(vertex.DeployedModel(deployed, id=version))
        except exceptions.InvalidArgument:
            # The reference allows an ID of ten digits; those of Vertex have nineteen. If the ID was not the reason,
            # this call fails too.
            self._endpoint.deploy(deployed)

    @retry.Retry(predicate=retry.if_exception_type(exceptions.NotFound), initial=1, maximum=20, timeout=45 * 60)
    def _wait_until_deployed(self, version: str) -> None:
        if self._snapshot().find(version) is None:
            raise exceptions.NotFound(f"version {version} is not deployed yet")

    def _start_trial(self, version: str, percent: int) -> int:
        """Give the version its share of the requests, or all if no other version has any; return the share."""

        def choose(now: View) -> dict[str, int]:
            if now.share_of(version):
                return now.split
            newer = [now.version_of(one) for one in now.live if now.age(one) > int(version)]
            if newer:
                raise ConcurrentChange(f"version {newer[-1]}, which is newer, was pushed at the same time")
            stable = {now.stable.id: 100 - percent} if now.stable and percent < 100 else {}
            return stable | {now.deployed(version).id: percent if stable else 100}

        return self._set_traffic(choose).share_of(version)

    def _require_traffic(self, version: str) -> None:
        if not self._snapshot().share_of(version):
            raise ConcurrentChange("another push, or a person, took its requests away during the test")

    @_again
    def _set_traffic(self, choose: Callable[[View], dict[str, int]]) -> View:
        """Set the traffic split that ``choose`` returns for the current state; return the new state."""
        view = self._snapshot()
        split = choose(view)
        if view.endpoint is None or split == view.split:
            return view
        self._endpoint.set_traffic(split, etag=view.endpoint.etag)
        return self._snapshot()

    def _undeploy_version(self, version: str) -> None:
        for deployed in self._snapshot().deployments_of(version):
            self._undeploy(deployed.id)

    @_again
    def _undeploy(self, deployed_id: str) -> None:
        with contextlib.suppress(exceptions.NotFound):  # by another process, or by an attempt whose response was lost
            self._endpoint.undeploy(deployed_id)

    @_again
    def _delete(self, version: str) -> None:
        entry = self._snapshot().registered(version)
        if entry is not None:
            with contextlib.suppress(exceptions.NotFound):
                self._registry.delete(entry.version_id)

    @_again
    def _merge_aliases(self, version: str, aliases: list[str], *, drop: str = "") -> None:
        entry = self._snapshot().registered(version)
        if entry is None:  # deployed by hand, not by this project
            return
        changes = [alias for alias in aliases if alias not in entry.version_aliases]
        changes += [f"-{drop}"] if drop in entry.version_aliases else []
        if changes:
            self._registry.merge_aliases(entry.version_id, changes)

    def _mark_champion(self, version: str) -> None:
        """Make the version the champion, and the current champion the previous one."""
        champion = self._snapshot().holder(CHAMPION)
        if champion is not None and champion != version:
            self._merge_aliases(champion, [PREVIOUS], drop=CANDIDATE)
        self._merge_aliases(version, [CHAMPION, DEFAULT], drop=CANDIDATE)

    def _clean_up(self, *, also: "list[str] | None" = None) -> RolloutState:
        """Undeploy versions that no longer take requests; versions newer than all live ones are about to."""
        view = self._snapshot()
        newest = max((view.age(one) for one in view.live), default=0)
        replaced = {*view.versions_of(view.live), *(also or ())}
        unused = [one for one in view.idle if view.age(one) < newest or view.version_of(one) in replaced]
        for deployed in unused:
            self._undeploy(deployed.id)
        return self._snapshot().state if unused else view.state

    def _model(self, candidate: Candidate, hosting: Hosting | None) -> vertex.Model:
        """Return the entry for the registry.

        The display name belongs to the model: Vertex shows that of the first version for all versions.
        """
        labels = dict(candidate.labels) | {VERSION_LABEL: candidate.version}
        return vertex.Model(
            display_name=self._registry.model_id,
            version_aliases=[CANDIDATE, version_alias(candidate.version)],
            version_description=_description(candidate),
            labels=labels if hosting else labels | {_REGISTERED_ONLY_LABEL: "true"},
            artifact_uri=candidate.artifact_uri,
            container_spec=_container(hosting.image) if hosting else {"image_uri": _PREBUILT_IMAGE},
        )

    def _cloud_errors(self) -> contextlib.AbstractContextManager[None]:
        return cloud_errors(self._project, self._region, unauthenticated=TargetUnreachable, failed=RolloutError)


def _container(image: str) -> vertex.ModelContainerSpec:
    """Return TF Serving's container, with Vertex's copy of the model's folder in ``AIP_STORAGE_URI``."""
    probe = vertex.Probe(
        http_get=vertex.Probe.HttpGetAction(path=_HEALTH_ROUTE, port=_REST_PORT),
        period_seconds=_PROBE_PERIOD_SEC,
        timeout_seconds=_PROBE_TIMEOUT_SEC,
    )
    return vertex.ModelContainerSpec(
        image_uri=image,
        ports=[vertex.Port(container_port=_REST_PORT)],
        predict_route=f"{_HEALTH_ROUTE}:predict",
        health_route=_HEALTH_ROUTE,
        startup_probe=vertex.Probe(probe, failure_threshold=_START_PROBES),
        health_probe=probe,
        liveness_probe=probe,
    )


def _logging(hosting: Hosting) -> vertex.PredictRequestResponseLoggingConfig:
    if hosting.request_log is None:
        return vertex.PredictRequestResponseLoggingConfig(enabled=False)
    return vertex.PredictRequestResponseLoggingConfig(
        enabled=True,
        sampling_rate=hosting.request_log_rate,
        bigquery_destination=vertex.BigQueryDestination(output_uri=hosting.request_log),
    )


def _machines(hosting: Hosting) -> vertex.DeployedModel:
    return vertex.DeployedModel(
        dedicated_resources=vertex.DedicatedResources(
            machine_spec=vertex.MachineSpec(machine_type=hosting.machine_type),
            min_replica_count=hosting.min_replicas,
            max_replica_count=hosting.max_replicas,
        )
    )


def _description(candidate: Candidate) -> str:
    """Return the description of the version, which names the original model."""
    return f"Copy of {candidate.source}"


def _error_text(error: Exception) -> str:
    """Return the message of an error of the project, or code and message of one of Google's clients."""
    return str(error) if isinstance(error, RolloutError | ServingError) else error_text(error)
