"""``ser export``: a pushed model as one file for a phone or another edge device."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import terminal
from cli.folders import require_output_file
from cli.options import PublicKey, PushedModels
from modules.common.native_output import discarded_native_stderr
from serving.server import command

app = typer.Typer(add_completion=False)


@app.command()
def export(
    *,
    form: Annotated[Literal["tflite", "onnx"], typer.Option("--format", help="Format of the file.")],
    out: Annotated[Path, typer.Option(help="File to write; an existing one is replaced.")],
    quantize: Annotated[
        Literal["none", "int8"], typer.Option(help="`int8` stores the network's weights in 8 bits.")
    ] = "none",
    model_base_path: PushedModels = command.DEFAULT_BASE_PATH,
    version: Annotated[int | None, typer.Option(min=1, help="Version to export.", show_default="the newest")] = None,
    public_key: PublicKey = None,
) -> None:
    """Export a pushed model to one file: a window of samples in, probabilities out.

    Features, normalisation, network and calibration are in the file. Decoding, resampling, the choice of windows and
    the speech threshold are not.
    """
    require_output_file(out, option="--out")
    command.require_folder(model_base_path)
    from modules.export.contract import load_contract
    from modules.export.edge import convert
    from modules.export.edge.facts import Facts
    from serving.batch.plan import find_model

    convert.require_packages(form)
    pushed = find_model(model_base_path, version, public_key=public_key)
    facts = Facts.of(
        load_contract(pushed.path), version=pushed.version, fingerprint=pushed.fingerprint, quantization=quantize
    )
    terminal.print_status(f"Model version {pushed.version}. Loading TensorFlow ...")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with discarded_native_stderr():
        difference = convert.export(pushed.path, facts, form, out)
    terminal.print_line(
        f"Written: {out}, {out.stat().st_size / 1000:.0f} kB. Largest difference to the served model on noise: "
        f"{difference:.0e}."
    )
    terminal.print_line(
        f"Input: {facts.window_samples} samples at {facts.sample_rate_hz} Hz. Output: {', '.join(facts.labels)}."
    )
