"""Labels of recordings: emotions, and what the labels of a corpus become. Imports nothing heavy."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from modules.common.settings import Settings

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The emotions of a model by default, in the order of its outputs."""

SEXES: tuple[str, ...] = ("female", "male", "unknown")

INTENSITIES: tuple[str, ...] = ("low", "normal", "strong", "unspecified")

SPLITS: tuple[str, ...] = ("train", "eval", "test")

DROP = "drop"

# Labels that corpora are known to have.
_CORPUS_LABELS = (*EMOTIONS, "calm", "boredom")
# Names of columns next to the probabilities, and answers other than emotions.
_RESERVED = {
    *(DROP, "no_speech", "not_sure", "file", "emotion", "predicted", "speech", "confidence"),
    *("model_version", "error", "message", "window_sec"),
    *("start_sec", "end_sec", "clip_id", "corpus", "speaker", "sex", "intensity", "fold", "clips", "hours"),
}

Label = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9 _-]{0,38}[a-z0-9])?$"),
    Field(json_schema_extra={"allowed": "at most 40 of a-z, 0-9, space, _ and -"}),
]


class LabelSettings(Settings):
    """Emotions of the model, and what the other labels of a corpus become.

    A label of a recording that is among `emotions` stays. Another one becomes what `mapping` names; without an entry
    there, its recordings are left out and counted. A model has the emotions that its recordings have: trained on
    CREMA-D alone it does not name `surprise`.
    """

    emotions: tuple[Label, ...] = Field(
        EMOTIONS,
        min_length=2,
        description="Emotions of the model, in the order of its outputs; own words are allowed.",
        json_schema_extra={"allowed": "a list of two names or more, of a-z, 0-9, space, _ and -"},
    )
    mapping: dict[Label, Label] = Field(
        {"calm": "neutral"},
        description="The emotion that a label outside of `emotions` becomes; `drop` leaves its recordings out.",
        json_schema_extra={"allowed": f"an emotion, another key of the mapping, or {DROP}"},
    )

    @model_validator(mode="after")
    def _require_distinct(self) -> Self:
        if reserved := sorted(_RESERVED & {*self.emotions}):
            raise ValueError(f"emotions has {', '.join(reserved)}, which the answers use already; choose another name")
        if len(set(self.emotions)) < len(self.emotions):
            raise ValueError(f"emotions is {', '.join(self.emotions)}; each name is allowed once")
        return self

    @model_validator(mode="after")
    def _require_targets(self) -> Self:
        for label, target in self.mapping.items():
            if target not in {DROP, *_CORPUS_LABELS, *self.emotions, *self.mapping}:
                raise ValueError(
                    f"mapping makes {label!r} {target!r}, which is no emotion; allowed: "
                    f"{', '.join((*self.emotions, DROP))}"
                )
            self._follow(label)
        return self

    def emotion_of(self, label: str) -> str | None:
        """Return the emotion that a label becomes; None if its recordings are left out.

        Args:
            label: Label of a recording.
        """
        return self._follow(label)

    def _follow(self, label: str) -> str | None:
        followed = [label]
        while (last := followed[-1]) not in self.emotions:
            if last not in self.mapping:
                return None
            if self.mapping[last] in followed:
                raise ValueError(f"mapping leads in a circle: {' to '.join((*followed, self.mapping[last]))}")
            followed.append(self.mapping[last])
        return last

    @property
    def known(self) -> tuple[str, ...]:
        """Labels that a manifest may have."""
        return tuple(dict.fromkeys((*self.emotions, *self.mapping, *_CORPUS_LABELS)))

    def occurring(self, emotions: Iterable[str]) -> tuple[str, ...]:
        """Return the emotions that occur, in the order of a model's outputs.

        Args:
            emotions: Emotion of each recording.
        """
        present = set(emotions)
        return tuple(emotion for emotion in self.emotions if emotion in present)
