"""Waits until the services of compose.yaml answer each other; runs in the container of the page."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

_WAIT_SEC = 300


def main() -> None:
    """Wait for each service; raises if one does not answer as it should."""
    _wait("the server has the model", lambda: "AVAILABLE" in _get("http://serving:8501/v1/models/ser"))
    _wait("the page is healthy", lambda: _get("http://localhost:8510/_stcore/health") == "ok")
    _wait("Alertmanager is ready", lambda: bool(_get("http://alertmanager:9093/-/ready")))
    _wait("Prometheus scrapes server and monitor", lambda: _scraped() == {"ser-serving": "up", "ser-monitor": "up"})
    _wait("Prometheus has the run", lambda: bool(_prometheus("query?query=ser_run_rejected")["result"]))
    _wait("Prometheus finds Alertmanager", lambda: len(_prometheus("alertmanagers")["activeAlertmanagers"]) == 1)


def _get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def _prometheus(path: str) -> Any:
    return json.loads(_get(f"http://prometheus:9090/api/v1/{path}"))["data"]


def _scraped() -> dict[str, str]:
    return {target["labels"]["job"]: target["health"] for target in _prometheus("targets")["activeTargets"]}


def _wait(what: str, holds: Callable[[], bool]) -> None:
    """Wait until a condition holds; no answer is not an error before the end."""
    deadline = time.monotonic() + _WAIT_SEC
    while True:
        try:
            if holds():
                break
            problem = ""
        except OSError as error:
            problem = f": {error}"
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {_WAIT_SEC} s: {what}{problem}")
        time.sleep(1)
    print(what, flush=True)


if __name__ == "__main__":
    main()
