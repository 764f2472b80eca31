"""Files below a folder or a ``gs://`` address: whether they differ from those of the last run."""

import dataclasses
import datetime
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_BUCKET = "gs://"
_SPAN = re.compile(r"span-(\d+)/")
_ARRIVING = ".arriving-span"  # `ser corpus arrive` leaves it while a span in a bucket is incomplete


@dataclasses.dataclass(frozen=True)
class File:
    """A file or an object.

    Attributes:
        name: Name below the folder.
        stamp: Text that changes with the content: size and time, or the generation.
        changed: Time of the last change.
    """

    name: str
    stamp: str
    changed: datetime.datetime


def files(address: str) -> list[File]:
    """Return the files below an address, sorted; a file has itself alone. Hidden ones are left out.

    Args:
        address: Folder or file, local or ``gs://``.

    Raises:
        FileNotFoundError: There is none.
        RuntimeError: A span is arriving there.
    """
    found = list(_objects(address) if address.startswith(_BUCKET) else _local_files(Path(address)))
    if any(file.name.rpartition("/")[2] == _ARRIVING for file in found):
        raise RuntimeError(f"a span is arriving at {address}; repeat `ser corpus arrive` if that was interrupted")
    found = [file for file in found if not any(part.startswith(".") for part in file.name.split("/"))]
    if not found:
        raise FileNotFoundError(f"there is no file at {address}; set the parameter to a folder with recordings")
    return sorted(found, key=lambda file: file.name)


def existing(address: str) -> str:
    """Return an address; empty where no file is left, as in a bucket after the retention of runs.

    Args:
        address: Folder, or nothing.
    """
    try:
        return address if address and files(address) else ""
    except FileNotFoundError:
        return ""


def fingerprint(listings: Iterable[list[File]], *others: str) -> str:
    """Return a hash of files and other inputs, 16 lower-case hexadecimal digits.

    Args:
        listings: Files of several places.
        *others: Other inputs, such as addresses and settings.
    """
    content = [[(file.name, file.stamp) for file in listing] for listing in listings]
    return hashlib.sha256(json.dumps([content, others]).encode()).hexdigest()[:16]


def newest_span(address: str, listing: list[File]) -> str:
    """Return the address of the newest ``span-N``; without spans, the address itself.

    Args:
        address: Folder of recordings.
        listing: Its files.
    """
    numbers = {int(match[1]) for file in listing if (match := _SPAN.match(file.name))}
    return f"{address.rstrip('/')}/span-{max(numbers)}" if numbers else address


def _local_files(place: Path) -> Iterator[File]:
    paths = (
        [place] if place.is_file() else (Path(folder, name) for folder, _, names in os.walk(place) for name in names)
    )
    for path in paths:
        stat = path.stat()
        name = path.name if path == place else path.relative_to(place).as_posix()
        changed = datetime.datetime.fromtimestamp(stat.st_mtime, datetime.UTC)
        yield File(name, f"{stat.st_size} {stat.st_mtime_ns}", changed)


def _objects(address: str) -> Iterator[File]:
    from airflow.providers.google.cloud.hooks.gcs import GCSHook

    bucket, _, prefix = address.removeprefix(_BUCKET).rstrip("/").partition("/")
    for blob in GCSHook().get_conn().list_blobs(bucket, prefix=prefix):
        rest = blob.name.removeprefix(prefix)
        if (not rest or rest.startswith("/")) and not blob.name.endswith("/"):  # not `recordings-old/…`, not a folder
            name = rest.lstrip("/") or blob.name.rpartition("/")[2]
            yield File(name, str(blob.generation), blob.updated)
