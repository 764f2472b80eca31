"""Command line of the pipeline on this machine: from folders of recordings to a blessed, pushed model.

python runner_local.py --data DIR [--config FILE] [--root DIR] [--set section.key=value ...]
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

# Before TensorFlow is imported: TensorFlow Transform and TFMA would otherwise switch child processes to Keras 2.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from cli import program, terminal
from cli.errors import Refused
from cli.exits import ExitCode
from cli.folders import require_folder, require_root
from cli.options import ConfigFile, Overrides
from modules.reporting.summary import RunSummary
from modules.reporting.text import outline
from pipeline.config import PipelineConfig, load_config
from pipeline.default_family import model_line, on_this_machine
from pipeline.run_lock import LOG_FILE, exclusive
from pipeline.run_log import quiet

app = program.application(add_completion=False)


@app.command()
def run(
    data: Annotated[Path, typer.Option(help="Folder of recordings, of one corpus or several.")],
    root: Annotated[Path, typer.Option(help="Output folder.")] = Path("output"),
    config: ConfigFile = None,
    overrides: Overrides = None,
    version: program.Version = False,
) -> None:
    """Run the speech-emotion pipeline on this machine."""
    require_folder(str(data), option="--data", advice="`ser corpus synth --out demo` makes a demo corpus")
    require_root(root, option="--root")
    if root.resolve().is_relative_to(data.resolve()):
        raise Refused(
            f"--root {root} is inside --data {data}, so a run would read its own output; give a folder outside"
        )
    default = on_this_machine()
    settings = load_config(config, overrides=overrides or [], environ=os.environ, family=default.name)
    with exclusive(root):  # another run is refused before its log is opened and TensorFlow is loaded
        terminal.print_status(model_line(settings.training.family, default))
    with quiet(root / LOG_FILE):
        summary = _run(settings, data, root)
    terminal.print_line(outline(summary, root))
    if summary.run.status == "failed":
        raise typer.Exit(ExitCode.FAILED)


def _run(config: PipelineConfig, data: Path, root: Path) -> RunSummary:
    terminal.print_status("Loading TensorFlow Extended ...")
    from pipeline import local  # takes ten seconds, so the input is checked first

    return local.run(config, data=data, root=root, command=shlex.join(["python", *sys.argv]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline.

    Args:
        arguments: Command line without the program; ``sys.argv`` by default.

    Returns:
        Exit code, as in :class:`cli.exits.ExitCode`.
    """
    return program.run(app, "runner_local.py", arguments)


if __name__ == "__main__":
    sys.exit(main())
