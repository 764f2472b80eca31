"""Airflow of ``deploy/airflow`` in its own environment, with a database of its own."""

import dataclasses
import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from tests.paths import ROOT
from tests.tools import tool

DAGS = ROOT / "deploy" / "airflow" / "dags"
TASKS = ("new_recordings", "drift", "train", "verdict", "watch", "report")
ADDRESSEE = "operators@example.com"


@dataclasses.dataclass(frozen=True)
class DagRun:
    """A finished run of ``airflow dags test``.

    Attributes:
        state: State of the run.
        tasks: State of each task.
        lines: What the task ``report`` returned.
        log: What it printed.
    """

    state: str
    tasks: dict[str, str]
    lines: list[str]
    log: str

    @property
    def order(self) -> list[str]:
        """States in the order of :data:`TASKS`."""
        return [self.tasks[name] for name in TASKS]


class Airflow:
    """An installation.

    Attributes:
        environ: Environment of its processes.
    """

    def __init__(self, home: Path, **environ: str) -> None:
        """Make the database in a folder."""
        tool("airflow/.ready")
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "SER_CORPORA") if name in os.environ}
        self.environ = inherited | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # the test machine may be busy
            "SER_AIRFLOW_WAIT_MIN": "0",
            "SER_AIRFLOW_POLL_SEC": "1",
            "SER_AIRFLOW_RETRIES": "0",
            "SER_AIRFLOW_ALERTS": ADDRESSEE,
            **environ,
        }
        self._database = home / "airflow.db"
        self.run("airflow", "db", "migrate")

    def run(self, program: str, *words: str, **environ: str) -> str:
        """Run a program of the environment and return its output."""
        command = [tool(f"airflow/bin/{program}"), *words]
        whole = self.environ | environ
        done = subprocess.run(command, env=whole, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def test(self, **params: Any) -> DagRun:
        """Run the DAG once with ``airflow dags test``."""
        params = {"settle_min": 0, **params}
        command = [tool("airflow/bin/airflow"), "dags", "test", "ser", "--conf", json.dumps(params)]
        done = subprocess.run(command, env=self.environ, cwd=ROOT, capture_output=True, text=True, check=False)
        with sqlite3.connect(self._database) as database:
            (run, state) = database.execute("SELECT run_id, state FROM dag_run ORDER BY id DESC").fetchone()
            tasks = database.execute("SELECT task_id, state FROM task_instance WHERE run_id = ?", [run]).fetchall()
            report = "SELECT value FROM xcom WHERE run_id = ? AND task_id = 'report' AND key = 'return_value'"
            lines = [line for (value,) in database.execute(report, [run]) for line in _decoded(value)]
        return DagRun(state, dict(tasks), lines, done.stdout + done.stderr)


def _decoded(value: str) -> list[str]:
    """Return an XCom that is a list of strings; Airflow stores JSON, or JSON in a JSON string."""
    decoded = json.loads(value)
    return json.loads(decoded) if isinstance(decoded, str) else decoded
