"""Patterns of ``ingest.pattern``. Light to import: the configuration checks them."""


def level_patterns(pattern: str) -> list[str]:
    """Return a pattern for each level of folders, since TFX's patterns do not support ``**``.

    Args:
        pattern: Pattern of the deepest level: ``span-{SPAN}/*/*`` gives ``span-{SPAN}/*`` and ``span-{SPAN}/*/*``.

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
            "allowed: one * for each level of folders, such as */*, with only a fixed beginning in front, such as "
            "span-{SPAN}/*/*"
        )
    return ["/".join([*fixed, *stars[: level + 1]]) for level in range(len(stars))]
