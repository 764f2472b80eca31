"""Numbered spans of recordings: those that a run reads, and earlier ones.

TFX's driver finds the newest span and supports no others ("ExampleGen only support single span"). So the executor,
which every platform runs, finds the earlier spans of the window.
"""

import dataclasses
import posixpath
import re
from collections.abc import Sequence

from tfx.components.example_gen import utils

from components.audio_example_gen.files import matching

_PLACE = re.compile(r"\{(SPAN|VERSION)(?::\d+)?\}")


@dataclasses.dataclass(frozen=True)
class Span:
    """A span in its newest version.

    Attributes:
        number: Number of the span.
        patterns: Pattern of each level of folders, as ``span-2/*``, ``span-2/*/*``.
    """

    number: int
    patterns: tuple[str, ...]


def spans_until(newest: int, input_base: str, patterns: Sequence[str]) -> list[Span]:
    """Return the existing spans up to ``newest``, the oldest first.

    Args:
        newest: The span that the driver found.
        input_base: Folder of the component.
        patterns: Pattern of each level of folders, with ``{SPAN}``.
    """
    fixed = patterns[0].removesuffix("/*")
    shape = re.compile("".join(_regex(part, number) for number, part in enumerate(_PLACE.split(fixed))))
    versions: dict[int, int | None] = {}
    for path in matching(posixpath.join(input_base, _PLACE.sub("*", fixed))):
        match = shape.fullmatch(posixpath.relpath(path, input_base))
        if match and int(match["SPAN"]) <= newest:
            number, version = int(match["SPAN"]), match.groupdict().get("VERSION")
            versions[number] = None if version is None else max(int(version), versions.get(number) or 0)
    return [
        Span(number, tuple(_filled(pattern, number, version) for pattern in patterns))
        for number, version in sorted(versions.items())
    ]


def in_window(spans: Sequence[Span], size: int) -> list[Span]:
    """Return the spans of the newest ``size`` numbers, as TFX defines a ``RollingRange``; missing numbers count.

    Args:
        spans: Spans, the newest last.
        size: Size of the window.
    """
    return [span for span in spans if span.number > spans[-1].number - size]


def fixed_folder(pattern: str) -> str:
    """Return the folder that contains the spans: ``new`` of ``new/span-{SPAN}/*``.

    Args:
        pattern: Pattern with ``{SPAN}``.
    """
    parts = pattern.split("/")
    varying = next(number for number, part in enumerate(parts) if _PLACE.search(part))
    return "/".join(parts[:varying])


def _regex(part: str, number: int) -> str:
    return f"(?P<{part}>\\d+)" if number % 2 else re.escape(part)


def _filled(pattern: str, span: int, version: int | None) -> str:
    return utils.get_pattern_for_span_version(
        pattern,
        is_match_span=True,
        is_match_date=False,
        is_match_version=version is not None,
        span=span,
        version=version,
    )
