"""Command line of the pipeline on this machine: from folders of recordings to a blessed, pushed model.

python runner_local.py --data DIR [--config FILE] [--root DIR] [--set section.key=value ...]
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

# Before TensorFlow is imported: TensorFlow Transform and TFMA would otherwise switch child processes to Keras 2.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from modules.reporting.summary import RunSummary
from modules.reporting.text import outline
from pipeline.config import ConfigError, load_config
from pipeline.default_family import model_line, on_this_machine
from pipeline.run_lock import LOG_FILE, RootInUse
from pipeline.run_log import quiet
from pipeline.runner_options import add_configuration

FAILED, UNUSABLE = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the pipeline.

    Args:
        arguments: Command line without the program; ``sys.argv`` by default.

    Returns:
        Exit status: 0 when the run reached a verdict, 1 when it failed, 2 when an input is unusable.
    """
    options = _parser().parse_args(arguments)
    if not options.data.is_dir():
        return _refuse(f"--data {options.data} is not a folder; `ser corpus synth --out demo` makes a demo corpus")
    if options.root.resolve().is_relative_to(options.data.resolve()):
        return _refuse(
            f"--root {options.root} is inside --data {options.data}, so a run would read its own output; "
            "give a folder outside"
        )
    try:
        with quiet(options.root / LOG_FILE):
            summary = _run(options)
    except (ConfigError, RootInUse) as error:
        return _refuse(str(error))
    print(outline(summary, options.root))
    return FAILED if summary.run.status == "failed" else 0


def _run(options: argparse.Namespace) -> RunSummary:
    default = on_this_machine()
    config = load_config(options.config, overrides=options.overrides, environ=os.environ, family=default.name)
    print(model_line(config.training.family, default), file=sys.stderr)
    print("Loading TensorFlow Extended ...", file=sys.stderr, flush=True)
    from pipeline.local import run  # takes ten seconds, so the input is checked first

    return run(config, data=options.data, root=options.root, command=shlex.join(["python", *sys.argv]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runner_local.py", description="Run the speech-emotion pipeline on this machine."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings, of one corpus or several")
    parser.add_argument("--root", type=Path, default=Path("output"), help="output folder (%(default)s)")
    add_configuration(parser, default=None)
    return parser


def _refuse(message: str) -> int:
    print(f"runner_local: {message}", file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
