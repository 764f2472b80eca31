"""Where the benchmarks read their recordings by default."""

import argparse
import os
from pathlib import Path


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, which defaults to RAVDESS in the folder that the environment variable SER_CORPORA names."""
    corpora = os.environ.get("SER_CORPORA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(corpora) / "ravdess" if corpora else None,
        required=not corpora,
        help="folder of recordings (default: $SER_CORPORA/ravdess)",
    )
