"""Journal of rollouts next to the server's configuration: a line of JSON for each change.

The server does not report since when it serves a version, nor previous versions. The file is also the lock that
prevents simultaneous rollouts on one server.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from modules.common.files import require_lock
from serving.rollout.state import ConcurrentChange, UnusableFile

Role = Literal["stable", "canary"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One change and its result.

    Attributes:
        time: Time of the change, in ISO 8601 with a time zone.
        action: Name of the change, such as ``promote``.
        stable: Stable version after the change.
        canary: Canary after the change, if any.
    """

    time: str
    action: str
    stable: str
    canary: str | None


class Journal:
    """Changes of one models.config, oldest first."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that excludes other rollouts, also those of other processes.

        Raises:
            ConcurrentChange: Another rollout holds the lock.
            UnusableFile: The file cannot be written.
        """
        try:
            file = self._file.open("a")
        except OSError as error:
            raise UnusableFile(f"cannot write {self._file}: {error.strerror}; nothing was changed") from error
        with file:
            held = f"another rollout holds {self._file}; nothing was changed, try again"
            require_lock(file, ConcurrentChange(held))
            yield

    def append(self, *, action: str, stable: str, canary: str | None) -> None:
        """Record a change with the current time.

        Args:
            action: Name of the change.
            stable: Stable version after the change.
            canary: Canary after the change, if any.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = Record(time=now, action=action, stable=stable, canary=canary)
        with self._file.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(record)) + "\n")

    def since(self, role: Role, version: str) -> datetime | None:
        """Return the start of the current role of ``version``; ``None`` where it is not on record.

        Args:
            role: ``stable`` or ``canary``.
            version: The version.
        """
        records = self._records()
        start = len(records)
        while start and getattr(records[start - 1], role) == version:
            start -= 1
        unknown = start == 0 if role == "stable" else False  # the role began before the first record
        return None if unknown or start == len(records) else datetime.fromisoformat(records[start].time)

    def champion_before(self, stable: str) -> str | None:
        """Return the stable version before ``stable``, without versions that were rolled back.

        Args:
            stable: The stable version.
        """
        champions: list[str] = []
        for record in self._records():
            if record.stable in champions:
                del champions[champions.index(record.stable) + 1 :]
            else:
                champions.append(record.stable)
        if stable not in champions or champions.index(stable) == 0:
            return None
        return champions[champions.index(stable) - 1]

    def _records(self) -> list[Record]:
        try:
            lines = self._file.read_text().splitlines()
        except FileNotFoundError:
            return []
        try:
            return [Record(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise UnusableFile(f"{self._file} is not a rollout's journal: {error}; move it away") from error
