"""A recording as its corpus describes it. Imports nothing heavy: the corpus commands start at once."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """One recording, before its audio is read.

    Attributes:
        path: Where the file is, relative to the folder that was ingested, with ``/`` between the parts.
        corpus: The corpus's short name, such as ``ravdess``.
        emotion: One of :data:`modules.data.labels.EMOTIONS`.
        speaker: Corpus-prefixed, such as ``ravdess-07``, so that speakers of two corpora never collide.
        sex: One of :data:`modules.data.labels.SEXES`.
        intensity: One of :data:`modules.data.labels.INTENSITIES`.
    """

    path: str
    corpus: str
    emotion: str
    speaker: str
    sex: str = "unknown"
    intensity: str = "unspecified"

    @property
    def clip_id(self) -> str:
        """Unique within a run, and the same wherever the folder lies."""
        return f"{self.corpus}/{self.path}"
