"""A rollout on a Vertex AI endpoint: the registry's aliases say what a version is, the traffic says who is asked.

======================  ===============================================================================================
alias ``candidate``     the newest version that was pushed and is not, or no longer, anything else
alias ``champion``      the version that was last found good: the first one, or one that was promoted
alias ``previous``      the champion before it, which a rollback goes back to
======================  ===============================================================================================

A version is deployed without traffic first, and undeployed without traffic last; in between, only `UpdateEndpoint`
moves traffic, with the etag of the endpoint that was looked at. So two processes cannot overwrite each other's
decision, and Vertex itself refuses to undeploy what somebody else has just given traffic. Every step looks at what
there is before it does anything: a step whose answer was lost, or a whole push that was killed, is simply done again.
Of two pushes at once the newer version stays; the other fails and takes itself back.

A version's name is the number of its folder. In the registry it is the alias ``v<version>`` and a label. On the
endpoint it is the name of the deployment, and its id too: Vertex will not deploy it twice. RawPredict answers with that
id. Where Vertex refuses an id of the caller's, it chooses one, and the registry says which version that is.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from google.api_core import exceptions, retry
from google.auth import exceptions as auth_exceptions
from google.cloud import aiplatform_v1 as vertex

from serving.client.errors import ServingError
from serving.rollout.state import RolloutError, RolloutState
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
"""What TF Serving calls the model: requests name it, and the routes follow from it."""

EndpointKind = Literal["dedicated", "shared"]

_REST_PORT = 8501
_HEALTH_ROUTE = f"/v1/models/{MODEL_NAME}"
# The reference of Probe: the period is less than the timeout.
_PROBE_PERIOD_SEC, _PROBE_TIMEOUT_SEC = 5, 10
_START_PROBES = 60

# Vertex AI registers no model without a container. Where none is given this one stands for it: Google's own, which
# every project may use. It is not deployed: a push to an endpoint registers the version again.
_PREBUILT_IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
_REGISTERED_ONLY_LABEL = "registered_only"

# For steps that look before they act. ABORTED: the endpoint changed since the look; ALREADY_EXISTS: somebody else made
# the endpoint or the model since.
_again = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable, exceptions.Aborted, exceptions.AlreadyExists),
    initial=0.5,
    maximum=10,
    timeout=120,
)


class PushFailed(RolloutError):
    """A version could not be pushed, and nothing of it is left: neither in the registry nor on the endpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A version to be pushed.

    Attributes:
        version: The number of its folder, at most ten digits.
        artifact_uri: The folder that holds that folder and nothing else.
        source: URI of the model that it is a copy of.
        labels: For the registry, beside the version's own.
    """

    version: str
    artifact_uri: str
    source: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosting:
    """How a version is deployed.

    Attributes:
        image: Of ``serving/container``, in Artifact Registry: its entrypoint reads what Vertex says.
        kind: Of the endpoint. One that exists must be of this kind.
        canary_percent: Of the requests, to a new version beside a stable one; 100 replaces the stable one.
        labels: Of the endpoint, if it has to be made.
    """

    image: str
    kind: EndpointKind
    machine_type: str
    min_replicas: int
    max_replicas: int
    canary_percent: int
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


Smoke = Callable[[str, int], None]
"""Asks a new version, given the endpoint's address for clients and the version's share of the requests in percent.

It raises :class:`RolloutError` or :class:`serving.client.errors.ServingError` if the version is not to be kept.
"""


class VertexTarget:
    """A :class:`serving.rollout.state.Target` on Vertex AI."""

    def __init__(self, *, project: str, region: str, endpoint: str, model_id: str) -> None:
        """Takes the display name of the endpoint, or its id, and the id of the model in the registry.

        Raises:
            RolloutError: No credentials.
        """
        self._project, self._region = project, region
        with self._explained():
            self._endpoint = Endpoint(project, region, endpoint)
            self._registry = Registry(project, region, model_id)

    @property
    def name(self) -> str:
        """The endpoint's resource name."""
        return self._endpoint.name

    @property
    def address(self) -> str:
        """What clients call the endpoint."""
        return f"vertex://{self._project}/{self._region}/{self.name.rpartition('/')[2]}"

    def state(self) -> RolloutState:
        """Who takes the requests; nobody where there is no endpoint yet."""
        with self._explained():
            return self._look().state

    def push(self, candidate: Candidate, hosting: Hosting, smoke: Smoke) -> RolloutState:
        """Registers a version, deploys it, gives it its share, asks it.

        On an empty endpoint it becomes the champion, otherwise the canary; a canary that is still there makes place.
        A version that is the champion already stays as it is.

        Raises:
            PushFailed: It did not work, and was taken back.
            RolloutError: It did not work, and what is left is told.
        """
        with self._explained():
            before = self._look()
            if before.is_champion(candidate.version):
                return self._tidied()
            registered = before.registered(candidate.version)
            self._require_same(registered, candidate)
            known = before.registered(candidate.version, without=CANDIDATE) is not None
            try:
                self._endpoint_exists(hosting)
                if registered is not None and _REGISTERED_ONLY_LABEL in registered.labels:
                    self._delete(candidate.version)
                self._upload(candidate, hosting)
                self._deploy(candidate.version, _machines(hosting))
                percent = self._put_on_trial(candidate.version, hosting.canary_percent)
                smoke(self.address, percent)
                self._require_trial(candidate.version)
            except Exception as error:  # whatever it was: a version that was not found good must not stay
                raise self._taken_back(candidate.version, known, error) from error
            if self._look().is_stable(candidate.version):
                self._crown(candidate.version)
            else:  # another push, which failed since, may have taken the alias
                self._merge_aliases(candidate.version, [CANDIDATE])
            return self._tidied()

    def register(self, candidate: Candidate) -> None:
        """Register a version and deploy nothing. A version that is registered stays as it is.

        Raises:
            PushFailed: It could not be registered, and nothing of it is left.
            RolloutError: It could not be registered, and the message tells what is left.
        """
        with self._explained():
            registered = self._look().registered(candidate.version)
            self._require_same(registered, candidate)
            if registered is not None:
                return
            try:
                self._upload(candidate, None)
            except exceptions.GoogleAPIError as error:
                raise self._taken_back(candidate.version, known=False, error=error) from error

    def promote(self) -> RolloutState:
        """The canary takes all requests and becomes the champion, the old stable version is undeployed.

        Called again after it was cut off, it does what is left to do.
        """
        with self._explained():
            view = self._look()
            promoted = view.canary or view.stable
            if promoted is None or not (view.canary or view.is_promotion_unfinished):
                raise RolloutError(f"nothing to promote: there is no canary on {self.name}, {view.in_words}")
            version = view.version_of(promoted)
            self._shift(lambda now: {now.deployed(version, live=True).id: 100})
            self._crown(version)
            return self._tidied()

    def abort(self) -> RolloutState:
        """The canary is undeployed and the stable version takes all requests.

        Called again after it was cut off, it does what is left to do.
        """
        with self._explained():
            view = self._look()
            canary = view.version_of(view.canary) if view.canary else view.holder(CANDIDATE)
            if canary is None or (view.share_of(canary) and not view.split_without(canary)):
                raise RolloutError(f"nothing to abort: there is no canary on {self.name}, {view.in_words}")
            return self._withdraw(canary)

    def rollback(self) -> RolloutState:
        """The canary is withdrawn; without one the previous champion comes back, deployed again if it has to be.

        Called again after it was cut off, it does what is left to do.
        """
        with self._explained():
            view = self._look()
            if view.canary:
                return self._withdraw(view.version_of(view.canary))
            if view.stable is None:
                raise RolloutError(f"nothing to roll back: no version is served on {self.name}")
            bad, good = view.version_of(view.stable), view.former_champion
            if good is None and view.leftovers:
                return self._tidied(also=view.leftovers)
            if good is None:
                raise RolloutError(
                    f"nothing to roll back to: the registry knows no champion before version {bad}; push another model"
                )
            self._replace(bad, good, view.stable)
            return self._tidied(also=[bad])

    def _replace(self, bad: str, good: str, like: vertex.DeployedModel) -> None:
        """Aliases first: who is cut off then goes on towards the same version."""
        machines = vertex.DeployedModel(
            dedicated_resources=like.dedicated_resources, service_account=like.service_account
        )
        self._deploy(good, machines)
        self._merge_aliases(good, [CHAMPION, DEFAULT], drop=PREVIOUS)

        def choose(now: View) -> dict[str, int]:
            if {now.version_of(one) for one in now.live} - {bad, good}:
                raise RolloutError(f"the rollout on {self.name} changed meanwhile: {now.in_words}; look again")
            return {now.deployed(good).id: 100}

        self._shift(choose)

    def _withdraw(self, version: str) -> RolloutState:
        self._shift(lambda now: now.split_without(version))
        self._undeploy_version(version)
        self._merge_aliases(version, [], drop=CANDIDATE)
        return self._look().state

    def _taken_back(self, version: str, known: bool, error: Exception) -> RolloutError:
        """Undoes a push, and says whether that worked.

        Args:
            known: The version was in the registry before this push, and no other push's unfinished work.
        """
        try:
            if self._look().is_champion(version):
                return RolloutError(f"version {version} was promoted while it was asked, and stays: {_said(error)}")
            self._shift(lambda now: now.split_without(version))
            self._undeploy_version(version)
            if known:
                self._merge_aliases(version, [], drop=CANDIDATE)
            else:
                self._delete(version)
            self._tidied()
        except (exceptions.GoogleAPIError, RolloutError) as second:
            return RolloutError(
                f"version {version} could not be pushed to {self.name}: {_said(error)}\nTaking it back failed too: "
                f"{_said(second)}\nPush the model again, which goes on from there, or look with `ser rollout status`"
            )
        text = f"version {version} could not be pushed to {self.name} and was taken back: {_said(error)}"
        return RolloutError(text) if known else PushFailed(text)

    # The steps. Each looks, then does what is still to be done.

    @_again
    def _look(self) -> View:
        return View(self._endpoint.get(), self._registry.versions(), self._registry.model_id)

    @_again
    def _endpoint_exists(self, hosting: Hosting) -> None:
        endpoint = self._endpoint.get()
        if endpoint is None:
            self._endpoint.create(hosting.labels, dedicated=hosting.kind == "dedicated")
            return
        found: EndpointKind = "dedicated" if endpoint.dedicated_endpoint_enabled else "shared"
        if found != hosting.kind:
            raise RolloutError(
                f"{self.name} is a {found} endpoint and vertex.endpoint.kind is {hosting.kind}; set "
                f"vertex.endpoint.kind={found}, or vertex.endpoint.name to the name of a new endpoint"
            )

    @_again
    def _upload(self, candidate: Candidate, hosting: Hosting | None) -> None:
        """Once, even if another process does the same at the same time: of two uploads the later one goes."""
        versions = self._registry.versions()
        found = entries_of(versions, candidate.version)
        if not found:
            self._registry.upload(self._model(candidate, hosting), first=not versions)
            found = entries_of(self._registry.versions(), candidate.version)
        for twin in found[1:]:
            with contextlib.suppress(exceptions.NotFound):
                self._registry.delete(twin.version_id)
        for kept in found[:1]:
            missing = {CANDIDATE, version_alias(candidate.version)} - set(kept.version_aliases)
            if missing:
                self._registry.merge_aliases(kept.version_id, sorted(missing))

    def _require_same(self, registered: vertex.Model | None, candidate: Candidate) -> None:
        if registered is not None and registered.version_description != _description(candidate):
            raise RolloutError(
                f"version {candidate.version} of {self._registry.model_id} is another model, not {candidate.source}: "
                "two pushes chose one number; push again"
            )

    def _deploy(self, version: str, machines: vertex.DeployedModel) -> None:
        try:
            self._start(version, machines)
        except exceptions.AlreadyExists:  # an attempt that was cut off began it
            self._wait_until_deployed(version)

    @retry.Retry(predicate=retry.if_exception_type(exceptions.ServiceUnavailable), initial=0.5, maximum=10, timeout=120)
    def _start(self, version: str, machines: vertex.DeployedModel) -> None:
        view = self._look()
        if view.find(version) is not None:
            return
        model = self._registry.version_name(view.require_registered(version).version_id)
        deployed = vertex.DeployedModel(machines, display_name=version, model=model)
        try:
            self._endpoint.deploy(vertex.DeployedModel(deployed, id=version))
        except exceptions.InvalidArgument:
            # The reference allows an id of ten digits; those that Vertex chooses have nineteen. If the id was not the
            # reason, this fails likewise.
            self._endpoint.deploy(deployed)

    @retry.Retry(predicate=retry.if_exception_type(exceptions.NotFound), initial=1, maximum=20, timeout=45 * 60)
    def _wait_until_deployed(self, version: str) -> None:
        if self._look().find(version) is None:
            raise exceptions.NotFound(f"version {version} is not deployed yet")

    def _put_on_trial(self, version: str, percent: int) -> int:
        """Its share of the requests, all on an endpoint where nothing else has any."""

        def choose(now: View) -> dict[str, int]:
            if now.share_of(version):
                return now.split
            newer = [now.version_of(one) for one in now.live if now.age(one) > int(version)]
            if newer:
                raise RolloutError(f"version {newer[-1]}, which is newer, was pushed meanwhile")
            stable = {now.stable.id: 100 - percent} if now.stable and percent < 100 else {}
            return stable | {now.deployed(version).id: percent if stable else 100}

        return self._shift(choose).share_of(version)

    def _require_trial(self, version: str) -> None:
        if not self._look().share_of(version):
            raise RolloutError("another push, or somebody, took its requests away meanwhile")

    @_again
    def _shift(self, choose: Callable[[View], dict[str, int]]) -> View:
        """Shares the traffic out as ``choose`` does of what is there, and returns what is there then."""
        view = self._look()
        split = choose(view)
        if view.endpoint is None or split == view.split:
            return view
        self._endpoint.set_traffic(split, etag=view.endpoint.etag)
        return self._look()

    def _undeploy_version(self, version: str) -> None:
        for deployed in self._look().deployments_of(version):
            self._undeploy(deployed.id)

    @_again
    def _undeploy(self, deployed_id: str) -> None:
        with contextlib.suppress(exceptions.NotFound):  # somebody else did, or an attempt whose answer was lost
            self._endpoint.undeploy(deployed_id)

    @_again
    def _delete(self, version: str) -> None:
        found = self._look().registered(version)
        if found is not None:
            with contextlib.suppress(exceptions.NotFound):
                self._registry.delete(found.version_id)

    @_again
    def _merge_aliases(self, version: str, aliases: list[str], *, drop: str = "") -> None:
        found = self._look().registered(version)
        if found is None:  # not this project's: it was deployed by hand
            return
        wanted = [alias for alias in aliases if alias not in found.version_aliases]
        wanted += [f"-{drop}"] if drop in found.version_aliases else []
        if wanted:
            self._registry.merge_aliases(found.version_id, wanted)

    def _crown(self, version: str) -> None:
        """Makes it the champion, and the champion so far the previous one."""
        champion = self._look().holder(CHAMPION)
        if champion is not None and champion != version:
            self._merge_aliases(champion, [PREVIOUS], drop=CANDIDATE)
        self._merge_aliases(version, [CHAMPION, DEFAULT], drop=CANDIDATE)

    def _tidied(self, *, also: "list[str] | None" = None) -> RolloutState:
        """Undeploys what no request reaches any more; what is newer than all that are asked is yet to be asked."""
        view = self._look()
        newest = max((view.age(one) for one in view.live), default=0)
        replaced = {*view.versions_of(view.live), *(also or ())}
        unused = [one for one in view.idle if view.age(one) < newest or view.version_of(one) in replaced]
        for deployed in unused:
            self._undeploy(deployed.id)
        return self._look().state if unused else view.state

    def _model(self, candidate: Candidate, hosting: Hosting | None) -> vertex.Model:
        """Return the registry's entry.

        The display name belongs to the model: Vertex shows that of the first version for all.
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

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except auth_exceptions.GoogleAuthError as error:
            raise RolloutError(f"no credentials: {error}\nRun `gcloud auth application-default login` first") from error
        except exceptions.GoogleAPIError as error:
            raise RolloutError(
                f"Vertex AI ({self._region}, project {self._project}) says {_said(error)}\n"
                "docs/guides/production/operate.md lists such failures and what to do"
            ) from error


def _container(image: str) -> vertex.ModelContainerSpec:
    """Return TF Serving's, with Vertex's copy of the model's folder in ``AIP_STORAGE_URI``."""
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


def _machines(hosting: Hosting) -> vertex.DeployedModel:
    return vertex.DeployedModel(
        dedicated_resources=vertex.DedicatedResources(
            machine_spec=vertex.MachineSpec(machine_type=hosting.machine_type),
            min_replica_count=hosting.min_replicas,
            max_replica_count=hosting.max_replicas,
        )
    )


def _description(candidate: Candidate) -> str:
    """Description of the version, which names the model that it is a copy of."""
    return f"Copy of {candidate.source}"


def _said(error: Any) -> str:
    """An error as a person wants to read it; of a retry that gave up, the reason."""
    if isinstance(error, exceptions.RetryError) and error.cause is not None:
        error = error.cause
    if isinstance(error, exceptions.GoogleAPICallError):
        code = error.grpc_status_code
        return f"{code.name if code else error.code}: {error.message}"
    return str(error) if isinstance(error, RolloutError | ServingError) else f"{type(error).__name__}: {error}"
