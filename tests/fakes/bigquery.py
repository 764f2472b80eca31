"""BigQuery for unmodified clients, which ``BIGQUERY_EMULATOR_HOST`` leads to it: bqemulator, with SQL on DuckDB.

It limits no billed bytes and checks no permissions.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from google.cloud import bigquery

from tests.fakes.listeners import wait_for_port
from tests.tools import tool

PROJECT = "example-project"
# Of an endpoint's log of requests.
COLUMNS = [
    bigquery.SchemaField("endpoint", "STRING"),
    bigquery.SchemaField("deployed_model_id", "STRING"),
    bigquery.SchemaField("logging_time", "TIMESTAMP"),
    bigquery.SchemaField("request_id", "NUMERIC"),
    bigquery.SchemaField("request_payload", "STRING", mode="REPEATED"),
    bigquery.SchemaField("response_payload", "STRING", mode="REPEATED"),
]
_LOOPBACK = "127.0.0.1"
_EXTENSION = "duckdb_extension_spatial/extensions"


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """Run the emulator; yield its URL."""
    program = tool("emulators/bin/bqemulator")
    _link_extension(program, folder)
    with socket.socket() as unused:
        unused.bind((_LOOPBACK, 0))
        port = unused.getsockname()[1]
    command = [program, "start", f"--rest-port={port}", "--grpc-port=0", f"--project={PROJECT}"]
    environ = {**os.environ, "HOME": str(folder)}
    with (
        (folder / "emulator.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environ) as process,
    ):
        try:
            wait_for_port(port, process)
            yield f"http://{_LOOPBACK}:{port}"
        finally:
            process.terminate()


def _link_extension(program: Path, home: Path) -> None:
    """Put the extension of the environment where DuckDB installs those that it downloads."""
    (extension,) = Path(program).parents[1].glob(f"lib/python*/site-packages/{_EXTENSION}/*/*")
    place = home / ".duckdb" / "extensions" / extension.parent.name / "linux_amd64"
    place.mkdir(parents=True)
    (place / extension.name).symlink_to(extension)
