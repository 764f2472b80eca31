"""Operators for one machine, which has the checkout and its environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator, Param, TriggerRule

from ser_airflow import exits, outcome

if TYPE_CHECKING:
    from airflow.sdk import Context

_EXAMPLES = ("artifacts", "AudioExampleGen", "examples")


class CommandOperator(BaseOperator):
    """Operator that runs a command in the checkout. An empty word skips it.

    Unlike the BashOperator it passes words, so that no parameter is read by a shell.

    Args:
        words: Command; the first word is a program of the environment.
        home: Working folder.
        programs: Folder of the programs.
        different_fails: Whether exit code 3 fails the task; "True" or "False".
    """

    template_fields = ("words", "different_fails")

    def __init__(
        self, *, words: list[str], home: str, programs: str, different_fails: str = "False", **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.words = words
        self.home = home
        self.programs = programs
        self.different_fails = different_fails
        self._hook = SubprocessHook()

    def execute(self, context: "Context") -> int:
        """Run the command and return 0, or 3 for a difference."""
        exits.require_words(self.words)
        program, *arguments = self.words
        command = [str(Path(self.programs, program)), *arguments]
        ended = self._hook.run_command(command, cwd=self.home)
        return exits.checked(ended.exit_code, different_fails=self.different_fails == "True")

    def on_kill(self) -> None:
        """End the command."""
        self._hook.send_sigterm()


def _default(name: str, value: str) -> str:
    return os.environ.get(f"SER_AIRFLOW_{name}", value)


class Local:
    """The pipeline on this machine."""

    def __init__(self, home: str, programs: str) -> None:
        """Take the checkout, and the folder of the programs."""
        self._home = home
        self._programs = programs
        self.params = {
            "data": Param(
                _default("DATA", f"{home}/demo"), type="string", minLength=1, description="Folder of recordings."
            ),
            "root": Param(
                _default("ROOT", f"{home}/output"), type="string", minLength=1, description="Output folder of the runs."
            ),
            "config": Param(f"{home}/configs/local.yaml", type="string", minLength=1, description="Configuration."),
            "address": Param("localhost:8500", type="string", description="gRPC address of TF Serving."),
            "models_config": Param("", type="string", description="TF Serving's models.config; empty: no watch."),
        }

    def inputs(self, params: Mapping[str, Any]) -> list[str]:
        """Return the addresses of recordings and configuration."""
        return [params["data"], params["config"]]

    def drift(self, words: list[str], *, different_fails: str) -> BaseOperator:
        """Return the operator that compares recordings."""
        return self._command("drift", words, different_fails=different_fails)

    def train(self) -> BaseOperator:
        """Return the operator that runs the pipeline."""
        options = [word for name in ("data", "root", "config") for word in (f"--{name}", f"{{{{ params.{name} }}}}")]
        return self._command(
            "train", ["python", "-m", "runner_local", *options], trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
        )

    def watch(self, words: list[str]) -> BaseOperator:
        """Return the operator that watches the canary."""
        return self._command("watch", [*words, "--models-config", "{{ params.models_config }}"])

    def outcome(self, context: Mapping[str, Any]) -> outcome.Outcome:
        """Return the outcome of the last run in the output folder."""
        folder = Path(context["params"]["root"])
        runs = sorted(folder.joinpath(*_EXAMPLES).glob("[0-9]*"), key=lambda path: int(path.name))
        text = (folder / outcome.SUMMARY_FILE).read_text(encoding="utf-8")
        return outcome.read(text, folder=str(folder), examples=str(runs[-1]))

    def _command(self, task_id: str, words: list[str], **arguments: Any) -> BaseOperator:
        return CommandOperator(task_id=task_id, words=words, home=self._home, programs=self._programs, **arguments)
