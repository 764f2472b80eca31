"""``python -m serving.server``: the embedded server as a process, with the options of ``ser serve``."""

import sys

import typer

from serving.server import command


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    app = typer.Typer(add_completion=False)
    app.command()(command.serve)
    try:
        app(prog_name=f"python -m {__package__}")
    except command.CannotServe as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
