"""A recording as its corpus describes it. Imports nothing heavy, so that the corpus commands start at once."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """One recording, before its audio is read.

    Attributes:
        path: Path of the file relative to the ingested folder, with ``/`` between the parts.
        corpus: Short name of the corpus, such as ``ravdess``.
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
        """Identifier of the clip, unique within a run and independent of the location of the folder."""
        return f"{self.corpus}/{self.path}"
