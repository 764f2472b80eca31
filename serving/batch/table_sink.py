"""Load of a batch's files into BigQuery, by Beam's own sink.

The sink's load jobs have random names, so that a table to which they append would have the rows of an interrupted
start twice. Here each start replaces the content of the table, which belongs to one batch.
"""

import json
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.io.gcp.bigquery import BigQueryDisposition, WriteToBigQuery

from modules.common import addresses
from modules.common.bigquery_table import Table
from serving.batch.plan import Output
from serving.batch.table import errors_table
from serving.batch.tables import Row, utf8_row

_ERRORS_SCHEMA = "file:STRING,error:STRING,message:STRING"


class LoadTables(beam.PTransform):
    """Replacement of a table's content by the results, and of ``TABLE_errors`` by the errors, if there are any.

    Beam waits for all shards first, so that a batch that failed loads nothing.
    """

    def __init__(self, output: Output, table: Table, labels: Sequence[str]) -> None:
        """Store the addresses.

        Args:
            output: Folder of results, as JSON lines.
            table: The table.
            labels: Names of the columns with probabilities.
        """
        super().__init__()
        self._output, self._table = output, table
        numbers = ",".join(f"{name}:FLOAT64" for name in (*labels, "speech"))
        self._schema = f"file:STRING,emotion:STRING,{numbers},model_version:INT64"

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Load the files.

        Args:
            shards: Numbers of the finished shards.
        """
        _load(shards, self._output.results_file, self._table, self._schema)
        _load(shards, self._output.errors_file, errors_table(self._table), _ERRORS_SCHEMA)
        return shards


def _load(shards: beam.PCollection, file_of: Callable[[int], str], table: Table, schema: str) -> None:
    _ = (
        shards
        | f"Read {table.name}" >> beam.FlatMap(lambda number: _rows(file_of(number)))
        | f"Load {table.name}"
        >> WriteToBigQuery(
            table=f"{table.project}:{table.dataset}.{table.name}",
            schema=schema,
            method=WriteToBigQuery.Method.FILE_LOADS,
            create_disposition=BigQueryDisposition.CREATE_IF_NEEDED,
            write_disposition=BigQueryDisposition.WRITE_TRUNCATE,
        )
    )


def _rows(file: str) -> Iterator[Row]:
    try:
        lines = addresses.read_bytes(file).splitlines()
    except FileNotFoundError:  # a shard without errors has no file of them
        return
    yield from (utf8_row(json.loads(line)) for line in lines)
