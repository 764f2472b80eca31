"""Runs the pipeline on this machine: from folders of recordings to a blessed, pushed model.

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
from pipeline.run_lock import LOG_FILE, RootInUse
from pipeline.run_log import quiet

FAILED, UNUSABLE = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Runs the pipeline. Returns 0 for a run that reached a verdict, 1 for one that failed, 2 for unusable input."""
    options = _parser().parse_args(arguments)
    if not options.data.is_dir():
        return _refuse(
            f"{options.data} is no folder of recordings; `ser corpus synth --out demo` makes one to try with"
        )

    if options.root.resolve().is_relative_to(options.data.resolve()):
        return _refuse(f"--root {options.root} lies inside --data {options.data}: what a run writes would be its input")

    try:
        with quiet(options.root / LOG_FILE):
            summary = _run(options)
    except (ConfigError, RootInUse) as error:
        return _refuse(str(error))
    print(outline(summary, options.root))
    return FAILED if summary.run.status == "failed" else 0


def _run(options: argparse.Namespace) -> RunSummary:
    config = load_config(options.config, overrides=options.overrides, environ=os.environ)
    print("Loading TensorFlow Extended ...", file=sys.stderr, flush=True)
    from pipeline.local import run  # takes ten seconds: after all that a user may have got wrong

    return run(config, data=options.data, root=options.root, command=shlex.join(["python", *sys.argv]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runner_local.py", description="Run the speech-emotion pipeline here.")
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings; several corpora may lie in it")
    parser.add_argument(
        "--config", type=Path, help="YAML file with what differs from the defaults, as configs/local.yaml"
    )
    parser.add_argument("--root", type=Path, default=Path("output"), help="where the run's output goes (%(default)s)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="one configuration value, such as training.epochs=20; may be repeated",
    )  # fmt: skip
    return parser


def _refuse(message: str) -> int:
    print(f"runner_local: {message}", file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
