"""Recordings that arrive in numbered spans: which of them a run reads, and which came before.

TFX's driver finds the newest span, and reads no other ("ExampleGen only support single span"). So the window of spans
is opened here, in the executor, which every platform runs; the newest span stays the driver's affair.
"""

import dataclasses
import posixpath
import re
from collections.abc import Sequence

from tfx.components.example_gen import utils
from tfx.dsl.io import fileio

_PLACE = re.compile(r"\{(SPAN|VERSION)(?::\d+)?\}")


@dataclasses.dataclass(frozen=True)
class Span:
    """One span, in its newest version.

    Attributes:
        patterns: What is read of it, one for each level of folders, as ``span-2/*``, ``span-2/*/*``.
    """

    number: int
    patterns: tuple[str, ...]


def level_patterns(pattern: str) -> list[str]:
    """Split ``span-{SPAN}/*/*`` into ``span-{SPAN}/*`` and ``span-{SPAN}/*/*``: TFX does not support ``**``.

    Raises:
        ValueError: The pattern has a wildcard elsewhere than in the levels at its end.
    """
    parts = pattern.split("/")
    levels = len(parts)
    while levels and parts[levels - 1] == "*":
        levels -= 1
    fixed, stars = parts[:levels], parts[levels:]
    if not stars or any("*" in part for part in fixed):
        raise ValueError(
            f"ingest.pattern is {pattern!r}; it must be one '*' for each level of folders, such as '*/*', with "
            "only a fixed beginning in front, such as 'span-{SPAN}/*/*'"
        )
    return ["/".join([*fixed, *stars[: level + 1]]) for level in range(len(stars))]


def spans_until(newest: int, input_base: str, patterns: Sequence[str]) -> list[Span]:
    """Return the existing spans up to ``newest``, the oldest first.

    Args:
        newest: Number of the span that the driver found.
        input_base: Folder of the spans.
        patterns: One for each level of folders, with ``{SPAN}`` in it.
    """
    fixed = patterns[0].removesuffix("/*")
    shape = re.compile("".join(_regex(part, number) for number, part in enumerate(_PLACE.split(fixed))))
    versions: dict[int, int | None] = {}
    for path in fileio.glob(posixpath.join(input_base, _PLACE.sub("*", fixed))):
        found = shape.fullmatch(posixpath.relpath(str(path), input_base))
        if found and int(found["SPAN"]) <= newest:
            number, version = int(found["SPAN"]), found.groupdict().get("VERSION")
            versions[number] = None if version is None else max(int(version), versions.get(number) or 0)
    return [
        Span(number, tuple(_filled(pattern, number, version) for pattern in patterns))
        for number, version in sorted(versions.items())
    ]


def in_window(spans: Sequence[Span], size: int) -> list[Span]:
    """Those of the newest ``size`` numbers, as TFX defines a ``RollingRange``: where a number is missing, fewer."""
    return [span for span in spans if span.number > spans[-1].number - size]


def fixed_folder(pattern: str) -> str:
    """Return the part of the pattern that all spans share: ``new`` of ``new/span-{SPAN}/*``."""
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
