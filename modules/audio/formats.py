"""Formats of sound files: those that are read, and what a file that is not one of them is."""

import codecs
import re
from collections.abc import Mapping
from typing import NamedTuple

import soundfile

from modules.audio import containers, riff

_SUFFIXES_BY_FORMAT = {
    "WAV": (".wav", ".wave", ".bwf"),
    "FLAC": (".flac",),
    "MP3": (".mp3", ".mp2", ".mpga"),
    "OGG": (".ogg", ".oga", ".opus"),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
    "W64": (".w64",),
    "RF64": (".rf64",),
    "NIST": (".nist", ".sph"),
    "VOC": (".voc",),
}
"""Suffixes by libsndfile's name of the format. Its formats for samplers and matrices are left out."""

SUFFIXES = tuple(
    suffix
    for name, suffixes in _SUFFIXES_BY_FORMAT.items()
    if name in soundfile.available_formats()
    for suffix in suffixes
)
"""Suffixes of what the installed libsndfile reads."""

_HEAD_BYTES = 4096
_SHOWN_BYTES = 12


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of the files that are read here: with PyAV, also those of its containers."""
    return SUFFIXES + containers.SUFFIXES if containers.can_read() else SUFFIXES


def is_readable(path: str) -> bool:
    """Return whether a file's name is that of a recording in a format that is read here.

    Args:
        path: Path or name of the file.
    """
    return path.lower().endswith(suffixes())


def is_recording(path: str) -> bool:
    """Return whether a file of a corpus is a recording, readable or not; videos, as RAVDESS has them, are not.

    Args:
        path: Path or name of the file.
    """
    return is_sound(path) and not path.lower().endswith(containers.VIDEO_SUFFIXES)


def is_sound(path: str) -> bool:
    """Return whether a file's name is that of a recording, readable or not.

    Args:
        path: Path or name of the file.
    """
    return path.lower().endswith(SUFFIXES + containers.SUFFIXES)


def advice(*, through_container: bool) -> str:
    """Return which formats are read, and what to do with a recording in another one.

    Args:
        through_container: Whether PyAV reads it.
    """
    remedy = f"{containers.INSTALL}, or convert it" if through_container and not containers.can_read() else "convert it"
    return f"readable formats are {', '.join(each[1:] for each in suffixes())}; {remedy}: ffmpeg -i FILE FILE.wav"


class Kind(NamedTuple):
    """Kind of a file that libsndfile does not read.

    Attributes:
        name: What it is.
        remedy: What to do; empty for the usual advice.
        container: PyAV's name of the format; empty if it is not sound.
    """

    name: str
    remedy: str = ""
    container: str = ""


_AGAIN = "download the recording again"
_MP4_BRANDS = {b"M4A": "an M4A file", b"M4B": "an M4B file", b"qt": "a QuickTime file", b"3gp": "a 3GP file"}
_BY_START: Mapping[bytes, Kind] = {
    b"version https://git-lfs": Kind("a Git LFS pointer", "fetch the recordings: git lfs pull"),
    b"#!AMR": Kind("an AMR file", container="amr"),
    b"\xff\xf1": Kind("an AAC file", container="aac"),
    b"\xff\xf9": Kind("an AAC file", container="aac"),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": Kind("a WMA file", container="asf"),
    b"OggS": Kind("an Ogg file with another codec than Vorbis, Opus and FLAC", container="ogg"),
    b"RIFF": Kind("a RIFF file that is not WAV"),
    b"PK\x03\x04": Kind("a ZIP archive", "unpack it"),
    b"\x1f\x8b": Kind("a gzip archive", "unpack it"),
    b"7z\xbc\xaf\x27\x1c": Kind("a 7z archive", "unpack it"),
    b"Rar!": Kind("a RAR archive", "unpack it"),
    b"%PDF": Kind("a PDF file", _AGAIN),
    b"\x89PNG": Kind("a PNG picture", _AGAIN),
    b"\xff\xd8\xff": Kind("a JPEG picture", _AGAIN),
    b"GIF8": Kind("a GIF picture", _AGAIN),
    b"\x00\x05\x16\x07": Kind("a macOS resource fork", "copy the recording itself"),
}


def kind_of(data: bytes) -> Kind:
    """Return what a file is that libsndfile does not read.

    Args:
        data: Content of the file, or its beginning.
    """
    head = data[:_HEAD_BYTES]
    if riff.is_wav(head):
        return Kind(f"a WAV file with format code {riff.format_code(head):#06x}")
    if head[4:8] == b"ftyp":
        names = (name for brand, name in _MP4_BRANDS.items() if head[8:12].startswith(brand))
        return Kind(next(names, "an MP4 file"), container="mov")
    if head[:4] == b"\x1aE\xdf\xa3":
        return Kind("a WebM file" if b"webm" in head[:64] else "a Matroska file", container="matroska")
    for start, kind in _BY_START.items():
        if head.startswith(start):
            return kind
    return _text_or_bytes(head)


def _text_or_bytes(head: bytes) -> Kind:
    if not head.strip(b"\0"):
        return Kind("a file of zero bytes only", _AGAIN)
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body)", head, re.IGNORECASE):
        return Kind("an HTML page", _AGAIN)
    if re.match(rb"(\xef\xbb\xbf)?\s*<\?xml", head):
        return Kind("an XML file", _AGAIN)
    if _is_text(head):
        return Kind("a text file", _AGAIN)
    return Kind(f"a file of unknown format, which begins with the bytes {head[:_SHOWN_BYTES].hex(' ')}")


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
