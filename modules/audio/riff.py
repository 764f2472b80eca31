"""Chunks of a RIFF file."""

import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

# Writers that stream write, as the unknown length, a value of this size or above: ffmpeg all ones, SoX 0x7FFFF000.
UNKNOWN_DATA_BYTES = 0x7FFF_F000
# Writers put a handful of chunks before the sound; a damaged file may seem to hold millions.
MAX_CHUNKS = 64
CHUNK_ID = "[A-Za-z0-9_ ]{4}"
"""Pattern of the names of chunks."""

_CHUNK_ID = re.compile(CHUNK_ID.encode())
_HEADER_BYTES = 12
_CHUNK_HEADER = struct.Struct("<4sI")


class Chunk(NamedTuple):
    """One chunk.

    Attributes:
        id: Four bytes, such as ``b"data"``.
        start: Position of its content in the file.
        size: Size of its content in bytes, as the file states it.
    """

    id: bytes
    start: int
    size: int


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks whose headers the file holds, in their order.

    Args:
        data: Content of the file.
    """
    position = _HEADER_BYTES
    while position + _CHUNK_HEADER.size <= len(data):
        chunk_id, size = _CHUNK_HEADER.unpack_from(data, position)
        position += _CHUNK_HEADER.size
        yield Chunk(chunk_id, position, size)
        position += size + size % 2


def is_wav(data: bytes) -> bool:
    """Return whether a file begins as WAV does.

    Args:
        data: Content of the file.
    """
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def data_chunk(data: bytes) -> Chunk | None:
    """Return the chunk of the samples, with the size that it has in the file; None if it is not found.

    Recorders write the size at the end. One that was killed leaves 0, and one that streams a placeholder.

    Args:
        data: Content of a WAV file.
    """
    for chunk in itertools.islice(chunks(data), MAX_CHUNKS):
        if chunk.id == b"data":
            rest = len(data) - chunk.start
            unknown = chunk.size >= UNKNOWN_DATA_BYTES or (chunk.size == 0 and not _is_chunk(data, chunk.start))
            return chunk._replace(size=rest) if unknown else chunk
    return None


def with_data_size(data: bytes, chunk: Chunk) -> bytes:
    """Return the file with the size of a chunk in the chunk's header.

    Args:
        data: Content of the file.
        chunk: The chunk.
    """
    header, at = _CHUNK_HEADER.pack(chunk.id, chunk.size), chunk.start - _CHUNK_HEADER.size
    return data if data[at : chunk.start] == header else data[:at] + header + data[chunk.start :]


def format_code(data: bytes) -> int:
    """Return the format code in the ``fmt`` chunk of a WAV file; 0 without one.

    Args:
        data: Content of the file.
    """
    return int.from_bytes(_format(data)[:2], "little")


def bytes_per_sec(data: bytes) -> int:
    """Return the bytes per second of sound in the ``fmt`` chunk of a WAV file; 0 without one.

    Args:
        data: Content of the file.
    """
    return int.from_bytes(_format(data)[8:12], "little")


def _format(data: bytes) -> bytes:
    for chunk in itertools.islice(chunks(data), MAX_CHUNKS):
        if chunk.id == b"fmt ":
            return data[chunk.start : chunk.start + chunk.size]
    return b""


def _is_chunk(data: bytes, position: int) -> bool:
    """Return whether a whole chunk follows, or nothing."""
    if position >= len(data):
        return True
    if position + _CHUNK_HEADER.size > len(data):
        return False
    chunk_id, size = _CHUNK_HEADER.unpack_from(data, position)
    return bool(_CHUNK_ID.fullmatch(chunk_id)) and position + _CHUNK_HEADER.size + size <= len(data)
