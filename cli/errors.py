"""Errors of commands, and the exit code of each error."""

import errno
from typing import Any

from cli.exits import ExitCode
from modules.common.errors import SerError

# Of errors of other packages: what the user gave cannot be used.
_REFUSALS = {
    "acceptance.no_recordings",
    "adaptation.model",
    "adaptation.too_little_speech",
    "audio.spec_mismatch",
    "arrive.refused",
    "arrive.reservoir_too_small",
    "batch.no_version",
    "batch.other_batch",
    "batch.unusable_table",
    "config.unusable",
    "corpus.unknown_code",
    "cross_validation.folds",
    "cross_validation.protocol",
    "data.splits",
    "data_version.missing",
    "demo_corpus.occupied_folder",
    "drift.not_comparable",
    "drift.unreadable_sample",
    "edge.not_convertible",
    "edge.packages_missing",
    "encoder.source",
    "forget.moved_root",
    "forget.unknown_speaker",
    "manifest.key",
    "manifest.mismatch",
    "manifest.signature",
    "reporting.summary_version",
    "monitor.not_started",
    "rollout.unusable_file",
    "rollout.unusable_place",
    "rollout.version_not_verified",
    "run.root_in_use",
    "serving.address",
    "serving.config_file",
    "serving.unusable_options",
}
_NO_SPACE = {errno.EDQUOT, errno.ENOSPC}
_PATH_ERRORS = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
    errno.EROFS,
}


class CommandFailed(SerError):
    """A command started and failed, for a reason that the user can fix."""

    code = "command.failed"


class Refused(CommandFailed):
    """A command, an option, a path or a recording cannot be used. Nothing was changed."""

    code = "command.refused"


def exit_code_of(error: SerError | OSError) -> ExitCode:
    """Return the exit code that an error ends a command with.

    Args:
        error: The error.
    """
    if isinstance(error, OSError):
        refused = error.errno in _PATH_ERRORS or isinstance(error, FileNotFoundError)
        return ExitCode.REFUSED if refused else ExitCode.FAILED
    return ExitCode.REFUSED if isinstance(error, Refused) or error.code in _REFUSALS else ExitCode.FAILED


def message_of(error: SerError | OSError) -> str:
    """Return the message that a command ends with.

    Args:
        error: The error.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    place: Any = error.filename
    reason = error.strerror or str(error)
    if exit_code_of(error) is ExitCode.REFUSED:
        next_step = "name another path"
    elif error.errno in _NO_SPACE:
        next_step = "free space there, or write to another disk"
    else:
        next_step = "free the resource and try again"
    return f"{place}: {reason}; {next_step}" if place else f"{reason}; {next_step}"
