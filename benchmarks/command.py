"""Command lines of the benchmarks: common options, the run's folder, and the output of tables."""

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import document

if TYPE_CHECKING:
    from pipeline.cross_validation.run import Plan

FOLDS = 6


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--data``, by default RAVDESS in the folder ``SER_CORPORA``, and ``--write``.

    Args:
        description: Docstring of the benchmark; its first line is the description.
    """
    parser = make_parser_without_data(description)
    corpora = os.environ.get("SER_CORPORA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(corpora) / "ravdess" if corpora else None,
        required=not corpora,
        help="folder of recordings (default: $SER_CORPORA/ravdess)",
    )
    return parser


def make_folds_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark over the folds of a cross-validation: also with ``--root``.

    Args:
        description: Docstring of the benchmark; its first line is the description.
    """
    parser = make_parser(description)
    parser.add_argument("--root", type=Path, default=Path("output"), help="folder of features and results")
    return parser


def make_parser_without_data(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--write``.

    Args:
        description: Docstring of the benchmark; its first line is the description.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown document to write the tables into, too")
    return parser


def plan_folds(
    options: argparse.Namespace, *overrides: str, leave_corpus_out: bool = False, protocol: str | None = None
) -> "Plan":
    """Return the six folds of ``ser evaluate`` for the options of :func:`make_folds_parser`.

    Args:
        options: Parsed options.
        *overrides: Settings that differ from the default configuration.
        leave_corpus_out: Whether each fold leaves a corpus out instead.
        protocol: Name of a protocol whose folds and emotions are used instead.
    """
    from pipeline.config import load_config  # slow to import
    from pipeline.cross_validation import run as cross_validation
    from pipeline.cross_validation.protocols.catalog import protocol_named

    config = load_config(overrides=list(overrides))
    named = protocol_named(protocol) if protocol else None
    return cross_validation.plan(
        named.configured(config) if named else config,
        data=options.data,
        root=options.root,
        folds=FOLDS,
        leave_corpus_out=leave_corpus_out,
        protocol=named,
    )


@contextlib.contextmanager
def run_folder(root: Path) -> Iterator[None]:
    """Lock the folder of a run and send the logs of libraries to its log file.

    Args:
        root: Folder of features and results.
    """
    from pipeline.run_lock import LOG_FILE, exclusive  # slow to import
    from pipeline.run_log import quiet

    with quiet(root / LOG_FILE), exclusive(root):
        yield


def publish(tables: Mapping[str, str], path: Path | None, *, keep_rows: bool = False) -> None:
    """Print tables and write each between its markers.

    Args:
        tables: Texts by the name of their markers.
        path: Document to write into; None to print only.
        keep_rows: Whether other rows of the document's tables stay, and its text.
    """
    print("\n".join(tables.values()))
    if path:
        for name, text in tables.items():
            (document.write_rows if keep_rows else document.write)(path, name, text)
