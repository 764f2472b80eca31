"""Chunks of a RIFF file."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

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
