"""Files of results, in each format. The columns are those of ``ser predict --csv``."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from serving.client import AudioError, Prediction

Row = dict[str, Any]


def result_row(name: str, prediction: Prediction) -> Row:
    """Return the row of an answer.

    Args:
        name: Address of the recording.
        prediction: The answer.
    """
    return {
        "file": name,
        "emotion": prediction.emotion,
        **prediction.probabilities,
        "speech": prediction.speech,
        "model_version": prediction.model_version,
    }


def error_row(name: str, error: AudioError) -> Row:
    """Return the row of a recording without an answer.

    Args:
        name: Address of the recording.
        error: The reason.
    """
    return {"file": name, "error": error.code, "message": str(error)}


def json_lines(rows: Iterable[Row], labels: Sequence[str] = ()) -> bytes:
    """Return an object for each row and line.

    Args:
        rows: The rows.
        labels: Not used.
    """
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def utf8_row(row: Row) -> Row:
    """Return a row for formats that hold UTF-8 alone: other bytes of a file's name are replaced.

    Args:
        row: Row of an answer or an error.
    """
    return {name: _utf8(value) if isinstance(value, str) else value for name, value in row.items()}


def _utf8(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _csv(rows: Iterable[Row], labels: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["file", "emotion", *labels, "speech", "model_version"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _six_decimals(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode(errors="surrogateescape")


def _six_decimals(value: object) -> object:
    return f"{value:.6f}" if isinstance(value, float) else value


def _parquet(rows: Iterable[Row], labels: Sequence[str]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    numbers = [(name, pa.float32()) for name in (*labels, "speech")]
    schema = pa.schema([("file", pa.string()), ("emotion", pa.string()), *numbers, ("model_version", pa.int64())])
    file = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist([utf8_row(row) for row in rows], schema), file)
    return file.getvalue().to_pybytes()


ENCODERS: Mapping[str, Callable[[Iterable[Row], Sequence[str]], bytes]] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": json_lines,
}
"""Functions from rows and labels to the content of a file, by the suffix of the file."""
