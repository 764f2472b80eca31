"""``ser rollout``: put a version on trial next to the stable one, promote it or roll it back."""

import contextlib
import dataclasses
import functools
import inspect
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import terminal
from cli.errors import Refused
from cli.exits import ExitCode
from cli.folders import require_folder
from cli.options import CaFile, PublicKey, require_finite, require_text
from cli.recordings import sound_files
from serving.rollout.settings import WatchSettings

if TYPE_CHECKING:
    from serving.client import Client
    from serving.rollout.state import RolloutState, Target
    from serving.rollout.verdict import Check, Observed
    from serving.rollout.watch import Observations, Watched

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Try a new version next to the stable one.")

_EXIT_OF = {"promoted": ExitCode.DONE, "rolled back": ExitCode.DIFFERENT, "undecided": ExitCode.UNDECIDED}
_RESULT_OF = {True: "pass", False: "FAIL", None: "open"}
_MAX_RECORDINGS = 200
_BOUNDS = WatchSettings()
_PROGRESS_SEC = 5.0
_TF_SERVING_NOTE = (
    "Share: of the requests that name neither version nor label; TF Serving sends them to the highest version. Callers "
    "choose with the labels stable and canary."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclasses.dataclass(frozen=True)
class _Place:
    """Options of each command that name the place where the models are served."""

    address: Annotated[
        str,
        typer.Option(
            help="TF Serving's gRPC as HOST:PORT or grpcs://HOST:PORT, or vertex://PROJECT/REGION/ENDPOINT.",
            show_default=True,
        ),
    ] = "localhost:8500"
    models_config: Annotated[
        Path | None,
        typer.Option(help="The models.config that TF Serving starts from; a change rewrites it, `status` does not."),
    ] = None
    model: Annotated[
        str,
        typer.Option(help="Name of the served model; on Vertex AI, its ID in the registry.", callback=require_text),
    ] = "ser"
    model_base_path: Annotated[
        Path | None,
        typer.Option(
            help="The `--model-base-path` of `ser serve`, if it was started with one in addition to the models.config."
        ),
    ] = None
    ca_file: CaFile = None

    def target(self) -> "Target":
        from serving.rollout.models_file import require_models_file
        from serving.rollout.resolve import target_at

        if self.models_config is not None:
            require_models_file(self.models_config)
        return target_at(
            self.address,
            models_config=self.models_config,
            model=self.model,
            model_base_path=self.model_base_path,
            ca_file=self.ca_file,
        )

    def client(self, label: str) -> "Client":
        from serving.client import Client

        return Client(self.address, model=self.model, label=label, ca_file=self.ca_file)


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Add a command that has the options of a :class:`_Place` where ``function`` has the parameter ``place``.

    Typer derives options from a function's signature, so the signature is rewritten.
    """
    options = inspect.signature(_Place).parameters

    @functools.wraps(function)
    def run(**values: Any) -> None:
        place = _Place(**{name: values.pop(name) for name in options})
        function(**values, place=place)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        parameters += options.values() if parameter.name == "place" else [parameter]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__dict__["__signature__"] = inspect.Signature(keywords)
    return app.command()(run)


@_command
def status(*, place: _Place, as_json: AsJson = False) -> None:
    """Show which versions take requests."""
    _do(place, lambda target: target.state(), as_json=as_json)


@_command
def canary(
    version: Annotated[str, typer.Argument(help="Name of its folder below the base path.")],
    stable: Annotated[
        str | None, typer.Option(help="The stable version, where the server has no labels yet.", show_default="highest")
    ] = None,
    public_key: PublicKey = None,
    *,
    place: _Place,
    as_json: AsJson = False,
) -> None:
    """Load a pushed version next to the stable one on TF Serving. On Vertex AI the push does that."""
    _do(place, lambda target: _start_canary(target, version, stable, public_key), as_json=as_json)


@_command
def promote(*, place: _Place, as_json: AsJson = False) -> None:
    """Give all requests to the canary and undeploy the old stable version."""
    _do(place, lambda target: target.promote(), as_json=as_json)


@_command
def rollback(*, place: _Place, as_json: AsJson = False) -> None:
    """Give all requests back to the stable version; without a canary, to the champion before it."""
    _do(place, lambda target: target.rollback(), as_json=as_json)


@_command
def abort(*, place: _Place, as_json: AsJson = False) -> None:
    """Undeploy the canary; the stable version keeps all requests. Without a canary that is an error."""
    _do(place, lambda target: target.abort(), as_json=as_json)


@_command
def prune(
    keep: Annotated[int, typer.Option(min=1, help="Number of the newest versions to keep in any case.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it the command only lists.")] = False,
    *,
    place: _Place,
    as_json: AsJson = False,
) -> None:
    """Remove old versions from TF Serving's base path, but none that is loaded, labelled, previous or newer."""
    from serving.rollout.tf_serving import TfServingTarget

    target = place.target()
    if not isinstance(target, TfServingTarget):
        raise Refused(f"{target.name} is an endpoint; delete old versions of its model in the console")
    pruned = target.prune(keep=keep, remove=yes)
    if as_json:
        print(json.dumps(dataclasses.asdict(pruned) | {"done": yes}, indent=2))
        return
    table = terminal.table("version", "", numbers=(), title=pruned.base_path)
    for number in sorted((*pruned.kept, *pruned.removed)):
        table.add_row(str(number), pruned.kept.get(number, "removed" if yes else "to be removed"))
    terminal.console().print(table)
    if pruned.removed and not yes:
        terminal.print_line("Nothing was removed; repeat with --yes")


@_command
def watch(
    probe: Annotated[str, typer.Option(help="Folder of recordings, local or gs://, to send to both versions.")],
    version: Annotated[
        str | None,
        typer.Option(
            help="Version that has to be the canary: TF Serving loads it first; once it is stable, nothing is done.",
            show_default="the canary",
        ),
    ] = None,
    public_key: PublicKey = None,
    minutes: Annotated[
        float,
        typer.Option(min=0, help="Duration in minutes; each recording is sent at least once.", callback=require_finite),
    ] = 10.0,
    interval_sec: Annotated[
        float, typer.Option(min=0, help="Pause between two recordings, in seconds.", callback=require_finite)
    ] = 1.0,
    min_requests: Annotated[
        int, typer.Option(help="Requests that each version must have answered.")
    ] = _BOUNDS.min_requests,
    min_recordings: Annotated[
        int, typer.Option(help="Different recordings that both must have answered.")
    ] = _BOUNDS.min_recordings,
    max_error_rate: Annotated[
        float, typer.Option(help="Largest error rate above that of the stable version.")
    ] = _BOUNDS.max_error_rate,
    max_latency_ratio: Annotated[
        float, typer.Option(help="Largest ratio of the latencies, canary to stable version.")
    ] = _BOUNDS.max_latency_ratio,
    max_prediction_drift: Annotated[
        float, typer.Option(help="Largest Jensen-Shannon divergence of the predictions, 0 to 1.")
    ] = _BOUNDS.max_prediction_drift,
    *,
    place: _Place,
    as_json: AsJson = False,
) -> None:
    """Compare the canary with the stable version for a while, then promote it or roll it back.

    Exit code 0: promoted, or stable already. 3: rolled back. 4: undecided or interrupted, nothing was changed. 1 or 2:
    no watch.
    """
    from pydantic import ValidationError

    from modules.common.settings import explain
    from serving.rollout.watch import watch as watch_target

    try:
        settings = WatchSettings(
            min_requests=min_requests,
            min_recordings=min_recordings,
            max_error_rate=max_error_rate,
            max_latency_ratio=max_latency_ratio,
            max_prediction_drift=max_prediction_drift,
        )
    except ValidationError as error:
        raise Refused(explain(error, WatchSettings)) from error
    target, recordings = place.target(), _recordings(probe)
    if version is not None and not _require_canary(target, version, public_key):
        terminal.print_status(f"version {version} is the stable one; there is nothing to watch")
        _show(target, target.state(), as_json=as_json)
        return
    try:
        with _observations(target, place, recordings) as observations:
            watched = watch_target(
                target, observations, settings, minutes=minutes, interval_sec=interval_sec, progress=_Progress()
            )
    except KeyboardInterrupt:
        terminal.print_error("ser", "interrupted; nothing was changed, the canary is still there")
        raise typer.Exit(ExitCode.UNDECIDED) from None
    if as_json:
        print(json.dumps(watched.to_dict() | _plain(target, watched.state), indent=2))
    else:
        _show_watched(target, watched)
    raise typer.Exit(_EXIT_OF[watched.outcome])


@contextlib.contextmanager
def _observations(target: "Target", place: _Place, wavs: dict[str, bytes]) -> "Iterator[Observations]":
    from serving.rollout.tf_serving import CANARY, STABLE, TfServingTarget
    from serving.rollout.watch import Probes, SharedProbes, both_versions

    if isinstance(target, TfServingTarget):
        with place.client(STABLE) as stable, place.client(CANARY) as canary:
            yield Probes(stable, canary, wavs)
        return
    from serving.client import Client
    from serving.rollout.vertex import MODEL_NAME, VertexTarget

    assert isinstance(target, VertexTarget)  # the only other kind
    with Client(target.address, model=MODEL_NAME) as client:
        yield SharedProbes(client, *both_versions(target), wavs)


def _require_canary(target: "Target", version: str, public_key: str | None) -> bool:
    """Start a version as the canary unless it is one; return False if it is the stable one, so that it cannot be."""
    state = target.state()
    if state.canary is not None and state.canary.version == version:
        return True
    if state.stable is not None and state.stable.version == version:
        return False
    _start_canary(target, version, None, public_key)
    return True


def _start_canary(target: "Target", version: str, stable: str | None, public_key: str | None) -> "RolloutState":
    from serving.rollout.tf_serving import TfServingTarget

    if not isinstance(target, TfServingTarget):
        raise Refused(f"{target.name} gets its canary from a push: run the pipeline with runner_vertex.py")
    return target.start_canary(version, stable=stable, public_key=public_key)


def _do(place: _Place, change: "Callable[[Target], RolloutState]", *, as_json: bool) -> None:
    """Change the rollout and show the versions that are served afterwards."""
    target = place.target()
    _show(target, change(target), as_json=as_json)


def _recordings(folder: str) -> dict[str, bytes]:
    """Return recordings below ``folder`` as WAV; of very many, a sample spread evenly over the list."""
    from serving.client import AudioError
    from serving.client.recordings import to_wav

    require_folder(folder, option="--probe")
    files = sound_files(folder)
    chosen = files[:: -(-len(files) // _MAX_RECORDINGS)]
    try:
        return {file: to_wav(file) for file in chosen}
    except AudioError as error:
        raise Refused(f"{error}; every recording below {folder} must be readable") from error


class _Progress:
    """Progress line on standard error every few seconds."""

    def __init__(self) -> None:
        self._next_sec = time.monotonic() + _PROGRESS_SEC

    def __call__(self, stable: "Observed", canary: "Observed") -> None:
        if time.monotonic() < self._next_sec:
            return
        self._next_sec = time.monotonic() + _PROGRESS_SEC
        terminal.print_status(
            f"stable: {stable.requests} requests, {stable.errors} failed; "
            f"canary: {canary.requests} requests, {canary.errors} failed"
        )


def _plain(target: "Target", state: "RolloutState") -> dict[str, Any]:
    served = {
        role: dataclasses.asdict(deployed) | {"since": deployed.since.isoformat() if deployed.since else None}
        if deployed
        else None
        for role, deployed in (("stable", state.stable), ("canary", state.canary))
    }
    return {"target": target.name} | served


def _show(target: "Target", state: "RolloutState", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_plain(target, state), indent=2))
        return
    from serving.rollout.tf_serving import TfServingTarget

    table = terminal.table("", "version", "since", numbers=("share",), title=target.name)
    for role, deployed in (("stable", state.stable), ("canary", state.canary)):
        if deployed is None:
            table.add_row(role, "none", "", "")
            continue
        since = f"{deployed.since.astimezone():%Y-%m-%d %H:%M}" if deployed.since else "unknown"
        table.add_row(role, deployed.version, since, f"{deployed.percent} %")
    terminal.console().print(table)
    if isinstance(target, TfServingTarget) and state.canary is not None:
        terminal.print_line(_TF_SERVING_NOTE)


def _show_watched(target: "Target", watched: "Watched") -> None:
    table = terminal.table("check", "result", numbers=("value", "bound"))
    for check in watched.verdict.checks:
        value = "" if check.value is None else f"{check.value:.4g}"
        table.add_row(check.name, _RESULT_OF[check.passed], value, f"{check.bound:.4g}")
    terminal.console().print(table)
    for line in _reasons(watched):
        terminal.print_line(line)
    _show(target, watched.state, as_json=False)


def _reasons(watched: "Watched") -> Iterator[str]:
    texts = {"promoted": "Promoted: every check passed.", "rolled back": "Rolled back."}
    yield texts.get(watched.outcome, "Undecided: nothing was changed. Watch longer, or decide yourself.")
    if watched.note:
        yield f"{watched.note[0].upper()}{watched.note[1:]}."
    yield from (_reason(check) for check in watched.verdict.checks if not check.passed)


def _reason(check: "Check") -> str:
    return f"{_RESULT_OF[check.passed]}: {check.text}"
