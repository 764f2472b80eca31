"""Recordings with the same sound: one of them is used, or none if their emotions differ."""

import collections
from collections.abc import Iterable, Iterator

from modules.data.clips import Clip


def groups(digests: Iterable[tuple[Clip, str]]) -> Iterator[list[Clip]]:
    """Yield the clips of each sound that several recordings have, sorted by ``clip_id``.

    Args:
        digests: Usable clips with the digests of their sound.
    """
    clips_of: dict[str, list[Clip]] = collections.defaultdict(list)
    for clip, digest in digests:
        clips_of[digest].append(clip)
    for clips in clips_of.values():
        if len(clips) > 1:
            yield sorted(clips, key=lambda clip: clip.clip_id)


def contradictions(digests: Iterable[tuple[Clip, str]]) -> dict[str, str]:
    """Return the reason, by ``clip_id``, of each clip whose sound has another emotion elsewhere.

    Args:
        digests: Usable clips with the digests of their sound.
    """
    reasons = {}
    for clips in groups(digests):
        first = clips[0]
        other = next((clip for clip in clips if clip.emotion != first.emotion), None)
        if other is None:
            continue
        for clip in clips:
            against = other if clip.emotion == first.emotion else first
            reasons[clip.clip_id] = (
                f"the same sound has two labels: {clip.emotion} here, {against.emotion} in {against.path}"
            )
    return reasons
