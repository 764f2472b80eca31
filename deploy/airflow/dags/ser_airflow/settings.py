"""Settings of a deployment, from environment variables; parameters of a run are Airflow's ``params``.

``SER__VERTEX__…`` are the variables that ``runner_vertex.py`` reads, too.
"""

import dataclasses
import os
from pathlib import Path

LOCAL, VERTEX = "local", "vertex"
_CHECKOUT = Path(__file__).resolve().parents[4]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a deployment.

    Attributes:
        place: ``local`` runs commands on the worker's machine, ``vertex`` on Vertex AI.
        schedule: Cron line or preset; None for runs by hand.
        wait_min: Minutes that a run waits for new recordings.
        poll_sec: Seconds between two looks at recordings or jobs.
        retries: Retries of each task.
        alerts: E-mail addresses that alerts are sent to.
        home: Checkout, the working folder of commands, for ``local``.
        programs: Folder of the programs of its environment.
    """

    place: str
    schedule: str | None
    wait_min: float
    poll_sec: int
    retries: int
    alerts: tuple[str, ...]
    home: str
    programs: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class VertexSettings:
    """Where the pipeline runs on Vertex AI.

    Attributes:
        project: Id of the Google Cloud project.
        region: Region of the runs.
        data: ``gs://`` folder of recordings.
        pipeline_root: ``gs://`` folder of artifacts.
        image: Image of the components, for ``ser`` commands.
        service_account: Account of runs and commands.
        job: ``gs://`` address of the compiled pipeline.
    """

    project: str
    region: str
    data: str
    pipeline_root: str
    image: str
    service_account: str
    job: str


def read() -> Settings:
    """Return the settings of the environment.

    Raises:
        ValueError: ``SER_AIRFLOW_PLACE`` is unknown.
    """
    place = _value("PLACE", LOCAL)
    if place not in (LOCAL, VERTEX):
        raise ValueError(f"SER_AIRFLOW_PLACE is {place!r}; allowed: {LOCAL}, {VERTEX}")
    home = os.environ.get("SER_HOME", str(_CHECKOUT))
    return Settings(
        place=place,
        schedule=_value("SCHEDULE", "@daily") or None,
        wait_min=float(_value("WAIT_MIN", "720")),
        poll_sec=int(_value("POLL_SEC", "300")),
        retries=int(_value("RETRIES", "2")),
        alerts=tuple(filter(None, _value("ALERTS", "").split(","))),
        home=home,
        programs=os.environ.get("SER_PROGRAMS", f"{home}/.venv/bin"),
    )


def read_vertex() -> VertexSettings:
    """Return the settings of Vertex AI.

    Raises:
        ValueError: Some are not set.
    """
    names = {
        field.name: "SER_AIRFLOW_JOB" if field.name == "job" else f"SER__VERTEX__{field.name.upper()}"
        for field in dataclasses.fields(VertexSettings)
    }
    missing = [variable for variable in names.values() if not os.environ.get(variable)]
    if missing:
        raise ValueError(
            f"not set: {', '.join(missing)}; with SER_AIRFLOW_PLACE={VERTEX} the DAG needs them "
            "(docs/guides/production/airflow.md)"
        )
    return VertexSettings(**{name: os.environ[variable] for name, variable in names.items()})


def _value(name: str, default: str) -> str:
    return os.environ.get(f"SER_AIRFLOW_{name}", default)
