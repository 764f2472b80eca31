"""``ser``: the project's commands.

A command's module is imported when the command is called, so that ``ser --help`` is fast and a broken module does not
affect other commands.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from cli import program


class _Entry(NamedTuple):
    """Location of a command's ``typer.Typer``, and its line in ``ser --help``."""

    target: str
    help: str


# One line per command. A Typer with a single command becomes that command, one with several becomes a group.
COMMANDS = {
    "corpus": _Entry("cli.corpus:app", "Make the demo corpus; scan, verify, export and forget recordings."),
    "config": _Entry("cli.config:app", "Show the configuration in effect, and describe its keys."),
    "evaluate": _Entry("cli.evaluate:app", "Cross-validate: evaluate models on unseen speakers."),
    "accept": _Entry("cli.accept:app", "Run acceptance tests with published bounds on models."),
    "runs": _Entry("cli.runs:app", "List, compare and open the runs of a folder."),
    "encoder": _Entry("cli.encoder:app", "Fetch the weights of a frozen speech encoder."),
    "drift": _Entry("cli.drift:app", "Compare new recordings or requests with those of the training."),
    "predict": _Entry("cli.predict:app", "Predict the emotion of recordings."),
    "listen": _Entry("cli.listen:app", "Predict the emotion of live sound: a microphone, or standard input."),
    "batch": _Entry("cli.batch:app", "Predict the emotion of a folder of recordings, into files, by Apache Beam."),
    "export": _Entry("cli.export:app", "Export a pushed model to a TFLite or ONNX file for an edge device."),
    "adapt": _Entry("cli.adapt:app", "Adapt a pushed model to another place by recordings without labels."),
    "serve": _Entry("cli.serving:serve_app", "Serve a pushed model as TF Serving does, for development."),
    "monitor": _Entry("cli.monitor:app", "Export the state of runs and served versions to Prometheus."),
    "rollout": _Entry("cli.rollout:app", "Try a new version next to the stable one, promote it or roll it back."),
    "ui": _Entry("cli.serving:ui_app", "Open a web page that predicts the emotion of a new recording or a file."),
}


class _LazyGroup(TyperGroup):
    """Group that lists the commands of the table and imports the one that is called.

    The types of context and command are Typer's own copy of Click's, which it does not export.
    """

    def __init__(self, **attributes: Any) -> None:
        stand_ins = {name: TyperCommand(name, help=entry.help) for name, entry in COMMANDS.items()}
        super().__init__(**(attributes | {"commands": stand_ins}))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, rest


def load_command(name: str) -> Any:
    """Import and return the command of that name."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
    command.name = name
    return command


app = program.application(cls=_LazyGroup, no_args_is_help=True)


@app.callback()
def _root(version: program.Version = False) -> None:
    """Recognise emotions in speech: prepare recordings, train, serve and compare models."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``ser`` and exit.

    Args:
        arguments: Words of the command line after ``ser``; those of this process by default.
    """
    sys.exit(program.run(app, "ser", arguments))
