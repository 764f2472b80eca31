"""Everything that decides what the ExampleGen writes. Light to import: the configuration reads it."""

import dataclasses
import json

from components.audio_example_gen.corpora import LabelSettings
from modules.audio.augmentation import AugmentationSettings
from modules.audio.decoding import AudioLimits
from modules.audio.spec import AudioSpec
from modules.data.splits import SplitSettings

FIVE_LEVELS = "*/*/*/*/*"

_SPAN = "{SPAN"  # what may follow is its width


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestSettings:
    """Everything that decides what the ExampleGen writes.

    Attributes:
        audio: How sound becomes features.
        labels: How labels outside the seven emotions are treated.
        splits: Which clips train, stop and judge the model.
        augmentation: Copies of the training clips.
        limits: What counts as a usable recording.
        pattern: Which levels of folders are read: a ``*`` for each, down to the deepest. In front may stand where new
            data arrives, with ``{SPAN}`` and ``{VERSION}`` as in every TFX ExampleGen: ``span-{SPAN}/*/*`` reads the
            latest span, two levels deep. There must be a file or folder on every level then, because TFX looks for
            the latest span level by level.
        spans: How many spans are read, the newest and those before it; where one is missing, fewer.
        max_quarantined_share: The run fails when a larger share of the recordings cannot be used.
        seed: Of the augmentation and of the order of the examples.
    """

    audio: AudioSpec = dataclasses.field(default_factory=AudioSpec)
    labels: LabelSettings = dataclasses.field(default_factory=LabelSettings)
    splits: SplitSettings = dataclasses.field(default_factory=SplitSettings)
    augmentation: AugmentationSettings = dataclasses.field(default_factory=AugmentationSettings)
    limits: AudioLimits = dataclasses.field(default_factory=AudioLimits)
    pattern: str = FIVE_LEVELS
    spans: int = 1
    max_quarantined_share: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.max_quarantined_share <= 1:
            raise ValueError(
                f"ingest.max_quarantined_share is {self.max_quarantined_share}; it must be between 0 and 1"
            )
        require_spans(self.pattern, self.spans)

    @property
    def in_spans(self) -> bool:
        """Whether the recordings arrive in numbered spans."""
        return _SPAN in self.pattern

    def to_json(self) -> str:
        """Canonical text: equal settings give equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "IngestSettings":
        values = json.loads(text)
        parts = {"audio": AudioSpec, "labels": LabelSettings, "splits": SplitSettings}
        parts |= {"augmentation": AugmentationSettings, "limits": AudioLimits}
        return cls(**values | {name: part(**values[name]) for name, part in parts.items()})


def require_spans(pattern: str, spans: int) -> None:
    """Raises ``ValueError`` where a window of several spans is asked for and there are none."""
    if spans < 1:
        raise ValueError(f"ingest.spans is {spans}; it must be 1 or above")
    if spans > 1 and _SPAN not in pattern:
        raise ValueError(
            f"ingest.spans is {spans}, and ingest.pattern is {pattern!r}, which has no {_SPAN}}}; put the recordings "
            f"into numbered folders and set ingest.pattern to 'span-{_SPAN}}}/*/*', or ingest.spans to 1"
        )
