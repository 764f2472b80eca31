"""Reads a Dockerfile into stages and instructions."""

import dataclasses
import re
from pathlib import Path


@dataclasses.dataclass
class Stage:
    """A stage of a build.

    Attributes:
        base: Image or stage that it starts from, as written.
        instructions: Pairs of a keyword and its arguments, lines joined.
    """

    name: str | None
    base: str
    instructions: list[tuple[str, str]]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return all instructions in order, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split()[0].upper(), line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def stages(path: Path) -> list[Stage]:
    """Return the stages in order."""
    parsed: list[Stage] = []
    for keyword, arguments in instructions(path):
        if keyword == "FROM":
            base, _, name = arguments.partition(" AS ")
            parsed.append(Stage(name=name or None, base=base, instructions=[]))
        elif parsed:
            parsed[-1].instructions.append((keyword, arguments))
    return parsed


def effective(path: Path, target: str | None) -> dict[str, str]:
    """Return what a stage and those that it starts from set: the last of each keyword, of ENV each variable.

    Args:
        path: The Dockerfile.
        target: Name of the stage; None for the last.
    """
    all_stages = stages(path)
    stage = all_stages[-1] if target is None else next(stage for stage in all_stages if stage.name == target)
    known = {stage.name for stage in all_stages}
    values = effective(path, stage.base) if stage.base in known else {}
    for keyword, arguments in stage.instructions:
        if keyword == "ENV":
            values |= dict(re.findall(r"(\w+)=(\S+)", arguments))
        else:
            values[keyword] = arguments
    return values
