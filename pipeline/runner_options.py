"""Options of both runners."""

import argparse
from pathlib import Path


def add_configuration(parser: argparse.ArgumentParser, *, default: Path | None) -> None:
    """Add ``--config`` and ``--set``, whose values are in ``config`` and ``overrides``.

    Args:
        parser: Parser of a command.
        default: File that is read without ``--config``; None for the defaults alone.
    """
    read = f"configs/{default.name}" if default else "none"
    parser.add_argument(
        "--config", type=Path, default=default, help=f"YAML file with what differs from the defaults (default: {read})"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="one value, such as training.epochs=20; may be repeated",
    )
