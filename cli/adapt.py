"""``ser adapt``: a pushed model, adapted to another place by recordings without labels, as a new version."""

import logging
import os
import posixpath
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import terminal
from cli.errors import CommandFailed
from cli.folders import require_folder, require_output
from cli.options import PublicKey, PushedModels
from cli.recordings import sound_files
from cli.terminal import counted
from modules.common import addresses
from modules.common.native_output import discarded_native_stderr
from modules.export import manifest
from serving.batch.plan import PushedModel, find_model
from serving.server import command

if TYPE_CHECKING:
    from modules.export.adapted import Place

app = typer.Typer(add_completion=False)

# Behind the source of the model: `ser corpus forget` still finds the version by it, and no later push takes the version
# for a copy of the model.
_ADAPTED = ", adapted"


@app.command()
def adapt(
    folder: Annotated[str, typer.Argument(help="Folder of recordings of the place, at any depth, local or gs://.")],
    *,
    model_base_path: PushedModels = command.DEFAULT_BASE_PATH,
    version: Annotated[int | None, typer.Option(min=1, help="Version to adapt.", show_default="the newest")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder of versions, local or gs://, that gets the new one.", show_default="the one of the model"
        ),
    ] = None,
    public_key: PublicKey = None,
    signing_key: Annotated[
        str | None,
        typer.Option(
            help="Ed25519 private key in PEM, local or gs://, that signs the new version.", show_default="not signed"
        ),
    ] = None,
) -> None:
    """Adapt a pushed model to a place by recordings without labels, and push it as a new version.

    The features of the place get mean and deviation of the training clips. This assumes that the recordings of the
    place have about the same mixture of emotions as the training data.
    """
    require_folder(folder)
    command.require_folder(model_base_path)
    if out is not None and not addresses.in_bucket(out):
        require_output(Path(out), option="--out")
    if signing_key:
        manifest.private_key(signing_key)
    recordings = sound_files(folder)
    found = find_model(model_base_path, version, public_key=public_key)
    terminal.print_status(
        f"{counted(len(recordings), 'recording')}; model version {found.version}. Loading TensorFlow ..."
    )
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with discarded_native_stderr():
        pushed, place = _adapt(found, recordings, out or model_base_path, signing_key)
    _print(pushed, found.version, place)


def _adapt(found: PushedModel, recordings: list[str], out: str, signing_key: str | None) -> "tuple[str, Place]":
    """Adapt a model, push it below ``out``, and return the address of the new version."""
    logging.getLogger("absl").setLevel("ERROR")  # TensorFlow Transform warns that Keras 3 is used
    import tensorflow as tf

    from components.atomic_pusher.executor import push, source_of
    from components.serving_validator.executor import validate
    from components.serving_validator.requests import warmup_requests
    from modules.export import adapted
    from modules.export.contract import load_contract

    contract = load_contract(found.path)
    training = adapted.training_constants(found.path, contract)
    try:
        model = tf.saved_model.load(found.path)
        place = adapted.measure(recordings, model, contract)
        source = (source_of(found.path) or found.path).removesuffix(_ADAPTED) + _ADAPTED
        with tempfile.TemporaryDirectory() as temporary:
            model_dir = posixpath.join(temporary, "model")
            adapted.save(model, found.path, found.version, model_dir, place, training)
            files = manifest.describe(model_dir)
            check = validate(model_dir, [*warmup_requests(model_dir)])
            if not check.passed:
                raise CommandFailed(f"version {found.version} was not adapted. {check.text}")
            return push(model_dir, out, source=source, validated=files, signing_key=signing_key), place
    except tf.errors.OpError as error:  # of a damaged model, or of a bucket
        raise CommandFailed(f"version {found.version} was not adapted: {error.message}") from error


def _print(pushed: str, version: int, place: "Place") -> None:
    from modules.export.adapted import LISTED
    from modules.reporting.model_card import ASSUMPTION

    for address, reason in list(place.unused.items())[:LISTED]:
        terminal.print_line(f"Not used: {address}: {reason}")
    if len(place.unused) > LISTED:
        terminal.print_line(f"Not used: {len(place.unused) - LISTED} more")
    terminal.print_line(
        f"Written: {pushed}, version {version} adapted to {place.recordings} recordings with {place.windows} windows "
        f"of speech, {place.speech_sec:.0f} s."
    )
    terminal.print_line(ASSUMPTION)
