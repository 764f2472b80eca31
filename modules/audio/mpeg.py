"""Frames of MPEG audio (MP1, MP2, MP3), whose files often do not state their length.

libsndfile estimates the length of such a file from its first frame and reads no further than the estimate. A header
"Xing" in the first frame, as encoders write it into files, states the number of frames; :func:`with_length` adds it.
Layout: ISO/IEC 11172-3 and 13818-3, and LAME's description of the Xing header.
"""

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by MPEG-1 and layer; the header has the position in the list plus 1."""

_RATES_HZ = (44_100, 48_000, 32_000)
_DIVISORS = {3: 1, 2: 2, 0: 4}
"""Divisor of the rates by the version in the header: MPEG-1, 2 and 2.5."""

MAX_FRAME_SAMPLES = 1152

_HEADER = struct.Struct(">I")
_MONO = 3
_LAYER_3 = 3
_HAS_FRAMES = 1
_XING = struct.Struct(">4sII")
_MAX_JUNK_BYTES = 1 << 16


class Length(NamedTuple):
    """Number of samples of a channel.

    Attributes:
        present: Samples in the frames of the file.
        stated: Samples by the Xing header; 0 without one.
    """

    present: int
    stated: int


class _Frame(NamedTuple):
    start: int
    header: int
    size: int

    @property
    def is_mpeg_1(self) -> bool:
        return self.header >> 19 & 3 == 3

    @property
    def layer(self) -> int:
        return 4 - (self.header >> 17 & 3)

    @property
    def samples(self) -> int:
        if self.layer == 1:
            return 384
        return 1152 if self.is_mpeg_1 or self.layer == 2 else 576

    @property
    def xing_offset(self) -> int:
        """Return the position of a Xing header in the frame, after the side information."""
        mono = self.header >> 6 & 3 == _MONO
        if self.is_mpeg_1:
            return 4 + (17 if mono else 32)
        return 4 + (9 if mono else 17)


def length(data: bytes) -> Length:
    """Return the lengths of MPEG audio; zeros for other files.

    Args:
        data: Content of a file.
    """
    frames = list(_frames(data))
    if len(frames) < 2:
        return Length(0, 0)
    first = frames[0]
    flags, count = _xing(data, first)
    return Length(len(frames) * first.samples, count * first.samples if flags & _HAS_FRAMES else 0)


def with_length(data: bytes) -> bytes:
    """Return an MP3 file with the number of its frames in a Xing header. The header makes libsndfile skip 529 samples.

    Args:
        data: Content of a file.
    """
    frames = list(_frames(data))
    if not frames or frames[0].layer != _LAYER_3:
        return data
    first = frames[0]
    after = first.start + (first.size if _has_xing(data, first) else 0)
    count = len(frames) - (after > first.start)
    return data[: first.start] + _length_frame(first, count) + data[after:]


def _has_xing(data: bytes, first: _Frame) -> bool:
    at = first.start + first.xing_offset
    return data[at : at + 4] in (b"Xing", b"Info")


def _xing(data: bytes, first: _Frame) -> tuple[int, int]:
    """Return flags and number of frames in the Xing header; zeros without one."""
    if not _has_xing(data, first):
        return 0, 0
    _, flags, count = _XING.unpack_from(data, first.start + first.xing_offset)
    return flags, count


def _frames(data: bytes) -> Iterator[_Frame]:
    """Yield the whole frames, and go on after bytes that are none of a frame, such as tags."""
    position = _after_tags(data)
    limit = position + _MAX_JUNK_BYTES
    while position < limit:
        frame = _frame_at(data, position)
        if frame and (frame.start + frame.size == len(data) or _frame_at(data, frame.start + frame.size)):
            yield frame
            position = frame.start + frame.size
            limit = position + _MAX_JUNK_BYTES
        else:
            position = data.find(b"\xff", position + 1, limit)
            if position < 0:
                return


def _after_tags(data: bytes) -> int:
    """Return the position after the ID3v2 tags at the start."""
    position = 0
    while data[position : position + 3] == b"ID3" and len(data) >= position + 10:
        size = 0
        for byte in data[position + 6 : position + 10]:  # seven bits each
            size = size << 7 | byte & 127
        position += 10 + size
    return position


def _frame_at(data: bytes, position: int) -> _Frame | None:
    if position + _HEADER.size > len(data):
        return None
    (header,) = _HEADER.unpack_from(data, position)
    size = _size(header)
    return _Frame(position, header, size) if size and position + size <= len(data) else None


def _size(header: int) -> int:
    """Return the size of a frame in bytes by its header; 0 for other bytes."""
    version, layer, rate, kbps = header >> 19 & 3, 4 - (header >> 17 & 3), header >> 10 & 3, header >> 12 & 15
    if header >> 21 != 0x7FF or version not in _DIVISORS or layer == 4 or rate == 3 or kbps in (0, 15):
        return 0
    rate_hz = _RATES_HZ[rate] // _DIVISORS[version]
    bit_rate = 1000 * _KBPS[version == 3, layer][kbps - 1]
    padding = header >> 9 & 1
    if layer == 1:
        return (12 * bit_rate // rate_hz + padding) * 4
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bit_rate // rate_hz + padding


def _length_frame(first: _Frame, frames: int) -> bytes:
    """Return a frame with a Xing header: the header of the first frame, at a bit rate that has room for it."""
    needed = first.xing_offset + _XING.size
    headers = (first.header & ~(15 << 12 | 1 << 9) | 1 << 16 | kbps << 12 for kbps in itertools.count(1))
    header = next(header for header in headers if _size(header) >= needed)
    content = _HEADER.pack(header) + bytes(first.xing_offset - 4) + _XING.pack(b"Xing", _HAS_FRAMES, frames)
    return content.ljust(_size(header), b"\0")
