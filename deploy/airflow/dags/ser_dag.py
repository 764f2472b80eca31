"""The DAG ``ser``: train on new recordings, watch the canary, report.

``SER_AIRFLOW_PLACE`` decides whether its commands run on this machine or on Vertex AI. A run whose recordings, pipeline
and settings are those of the last finished run is skipped. docs/guides/production/airflow.md describes it.
"""

import dataclasses
import datetime
import os
from typing import Any

from airflow.sdk import BaseOperator, Param, PokeReturnValue, TriggerRule, Variable, dag, get_current_context, task
from ser_airflow import alerts, exits, recordings, settings

_LAST_RUN = "ser_last_run"
_SETTINGS = settings.read()

_PARAMS = {
    "stop_on_drift": Param(False, type="boolean", description="Stop, with an alert, when the new recordings drifted."),
    "settle_min": Param(10, type="number", minimum=0, description="Minutes without a change before a run begins."),
    "force": Param(False, type="boolean", description="Run although nothing has changed."),
    "probe": Param("", type="string", description="Folder of recordings to watch the canary with; empty: no watch."),
    "watch_min": Param(10, type="number", minimum=0, description="Minutes of the watch."),
}


def _make_place() -> Any:
    if _SETTINGS.place == settings.LOCAL:
        from ser_airflow.local import Local

        return Local(_SETTINGS.home, _SETTINGS.programs)
    from ser_airflow.vertex import Vertex

    return Vertex(settings.read_vertex(), poll_sec=_SETTINGS.poll_sec)


_PLACE = _make_place()


@task.sensor(mode="reschedule", poke_interval=_SETTINGS.poll_sec, timeout=60 * _SETTINGS.wait_min, soft_fail=True)
def new_recordings() -> PokeReturnValue:
    """Wait until the inputs differ from those of the last finished run, and have not changed for a while."""
    params = get_current_context()["params"]
    addresses = _PLACE.inputs(params)
    listings = [recordings.files(address) for address in addresses]
    own_settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("SER__"))
    current = recordings.fingerprint(listings, *addresses, *own_settings)
    last = Variable.get(_LAST_RUN, default={}, deserialize_json=True)
    settled = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=params["settle_min"])
    name = f"{current}-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S}" if params["force"] else current
    is_settled = all(file.changed <= settled for listing in listings for file in listing)
    is_new = params["force"] or current != last.get("fingerprint")
    return PokeReturnValue(
        is_done=is_new and is_settled,
        xcom_value={
            "fingerprint": current,
            "run_name": name,
            "newest": recordings.newest_span(addresses[0], listings[0]),
            "reference": recordings.existing(last.get("examples", "")),
        },
    )


def _drift() -> BaseOperator:
    """Compare the new recordings with the examples of the last run; skipped where there are none."""
    found = "ti.xcom_pull(task_ids='new_recordings')"
    words = ["ser", "drift", f"{{{{ {found}['reference'] }}}}", f"{{{{ {found}['newest'] }}}}"]
    return _PLACE.drift(words, different_fails="{{ params.stop_on_drift }}")


@task
def verdict() -> dict[str, Any]:
    """Read the outcome, and send an alert when the model was rejected."""
    context = get_current_context()
    found = _PLACE.outcome(context)
    if not found.blessed:
        alerts.send(_SETTINGS.alerts, context, subject="ser: the model was rejected", lines=found.lines)
    return {**dataclasses.asdict(found), "lines": found.lines}


def _watch() -> BaseOperator:
    """Compare the pushed version with the stable one; skipped when nothing was pushed, or without recordings for it."""
    version = "{{ ti.xcom_pull(task_ids='verdict')['version'] }}"
    options = ["--version", version, "--address", "{{ params.address }}", "--minutes", "{{ params.watch_min }}"]
    return _PLACE.watch(["ser", "rollout", "watch", "--probe", "{{ params.probe }}", *options])


@task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
def report() -> list[str]:
    """Return the outcome in lines, keep what the next run compares with, and send an alert about a rollback."""
    context = get_current_context()
    pull = context["ti"].xcom_pull
    inputs, drifted, decided, watched = (
        pull(task_ids=name) for name in ("new_recordings", "drift", "verdict", "watch")
    )
    lines = list(decided["lines"])
    lines.append(
        {exits.DONE: "no drift", exits.DIFFERENT: "the recordings drifted"}.get(drifted, "drift: not compared")
    )
    lines.append(
        {exits.DONE: "the version is stable", exits.DIFFERENT: "the canary was rolled back"}.get(watched, "not watched")
    )
    if watched == exits.DIFFERENT:
        alerts.send(_SETTINGS.alerts, context, subject="ser: the canary was rolled back", lines=lines)
    Variable.set(
        _LAST_RUN, {"fingerprint": inputs["fingerprint"], "examples": decided["examples"]}, serialize_json=True
    )
    for line in lines:
        print(line)
    return lines


@dag(
    dag_id="ser",
    description="Train on new recordings, watch the canary, report.",
    schedule=_SETTINGS.schedule,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    max_active_runs=1,
    params={**_PARAMS, **_PLACE.params},
    default_args={
        "retries": _SETTINGS.retries,
        "retry_delay": datetime.timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "on_failure_callback": alerts.on_failure(_SETTINGS.alerts),
    },
    doc_md=__doc__,
    tags=["speech-emotion"],
)
def ser() -> None:
    """Wire the tasks."""
    found, train, decided = new_recordings(), _PLACE.train(), verdict()
    found >> _drift() >> train
    found >> train >> decided >> _watch() >> report() << decided


ser()
