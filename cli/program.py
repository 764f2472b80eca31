"""Start of a program: one look of help and errors, and one table of exit codes, for ``ser`` and both runners."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from cli import terminal
from cli.errors import exit_code_of, message_of
from cli.exits import ExitCode
from modules.common import interruption
from modules.common.errors import SerError

_DISTRIBUTION = "ser-pipeline"
_ANY_NAME = "ser.any_name"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(metadata.version(_DISTRIBUTION))
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)]


def application(**options: Any) -> typer.Typer:
    """Return an empty application of a program: help with ``-h``, too, and shell completion.

    Args:
        **options: Further options of ``typer.Typer``.
    """
    names = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(context_settings=names, pretty_exceptions_show_locals=False, **options)


def run(app: Callable[..., Any], name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a program and print its error, if any, as one message.

    Args:
        app: Application.
        name: Name of the program in its messages.
        arguments: Words of the command line after the program; those of this process by default.

    Returns:
        Exit code.
    """
    _open_closed_streams()
    _write_any_name()
    words = None if arguments is None else list(arguments)
    try:
        with interruption.kept():
            code = app(args=words, prog_name=name, standalone_mode=False) or ExitCode.DONE
        sys.stdout.flush()  # a full disk is an error of the command
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit) as end:
        if not isinstance(end, BrokenPipeError) and not isinstance(end.__context__, BrokenPipeError):
            raise
        code = ExitCode.CLOSED  # Typer and rich raise SystemExit for it
    except TyperException as error:
        if error.format_message():  # without a command, Typer has printed the help
            terminal.print_error(name, _usage(error, name))
        return ExitCode.REFUSED
    except (SerError, OSError) as error:
        terminal.print_error(name, message_of(error))
        return exit_code_of(error)
    finally:
        _drop_unwritten()
    if code == ExitCode.INTERRUPTED:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # after a live line
        terminal.print_error(name, "interrupted")
    return int(code)


def _usage(error: TyperException, name: str) -> str:
    from pydantic import ValidationError  # Typer has imported it to raise one

    context = getattr(error, "ctx", None)
    path = context.command_path if context else name
    message = error.format_message().rstrip().replace("Value error, ", "")  # of pydantic, which Typer uses
    if isinstance(error.__cause__, ValidationError):
        message = message.replace(": Input ", f": {error.__cause__.errors()[0]['input']!r} ", 1)
    return f"{message}\n`{path} --help` lists what is allowed."


def _open_closed_streams() -> None:
    """Open the null device in place of closed standard streams, as of a service that was started without them.

    Python leaves them out, and the next file that is opened would have their descriptor.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115, open until the process ends


def _drop_unwritten() -> None:
    """Send what could not be written to the null device; else Python ends with 120 and a message of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with Path(os.devnull).open("w") as null:
                os.dup2(null.fileno(), stream.fileno())


def _bytes_or_mark(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError as lacking:  # such as a bar in a locale of ASCII
        return "?" * (lacking.end - lacking.start), lacking.end


def _write_any_name() -> None:
    """Let standard output take any text: names of files that are not UTF-8 as their bytes, what it lacks as ``?``."""
    codecs.register_error(_ANY_NAME, _bytes_or_mark)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors=_ANY_NAME)
