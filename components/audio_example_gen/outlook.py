"""Why a run of a folder fails, or ends without a blessed model: for the run, and for the scan before it."""

from collections.abc import Iterator, Mapping, Sequence

from components.audio_example_gen.settings import IngestSettings
from modules.data.clips import Clip
from modules.data.labels import SPLITS
from modules.data.splits import TEST, TRAIN, SplitError, assign


def outlook(clips: Sequence[Clip], *, unusable: int, settings: IngestSettings) -> Iterator[str]:
    """Yield what a run of a folder without spans would fail of, or else warn of.

    Args:
        clips: Usable recordings; at least one.
        unusable: Number of the other recordings.
        settings: Settings of the ingestion.
    """
    emotions = settings.labels.occurring(clip.emotion for clip in clips)
    faults = [share_fault(unusable, len(clips) + unusable, settings), emotions_fault(emotions)]
    try:
        split_of = assign(clips, settings.splits, min_test_speakers=settings.min_test_speakers)
    except SplitError as error:
        faults.append(str(error))
    yield from (f"it would fail: {fault}" for fault in faults if fault)
    if not any(faults):
        yield from warnings(clips, split_of, settings)


def share_fault(unusable: int, recordings: int, settings: IngestSettings) -> str:
    """Return that too many recordings are unusable; empty if they are not.

    Args:
        unusable: Number of unusable recordings.
        recordings: Number of all.
        settings: Settings of the ingestion.
    """
    share = unusable / recordings if recordings else 0.0
    if share <= settings.max_quarantined_share:
        return ""
    return (
        f"{unusable} of {recordings} recordings ({share:.1%}) are unusable; ingest.max_quarantined_share allows "
        f"{settings.max_quarantined_share:.1%}"
    )


def emotions_fault(emotions: Sequence[str]) -> str:
    """Return that a model needs other emotions; empty if there are two.

    Args:
        emotions: Emotions of the usable recordings.
    """
    if len(emotions) > 1:
        return ""
    return (
        f"every usable recording is {emotions[0]}, and a model needs two emotions; add recordings of others, or change "
        "labels.emotions and labels.mapping"
    )


def warnings(clips: Sequence[Clip], split_of: Mapping[str, str], settings: IngestSettings) -> Iterator[str]:
    """Yield that the gate cannot bless the model, or that training lacks an emotion.

    Args:
        clips: All clips.
        split_of: Split of each clip, by its id.
        settings: Settings of the ingestion.
    """
    emotions = {split: {clip.emotion for clip in clips if split_of[clip.clip_id] == split} for split in SPLITS}
    speakers = {clip.speaker for clip in clips if split_of[clip.clip_id] == TEST}
    if len(speakers) < settings.min_test_speakers:
        yield (
            f"test speakers: {len(speakers)}, and gate.min_test_speakers is {settings.min_test_speakers}, "
            "so the gate will not bless the model. Add recordings of other speakers"
        )
    if missing := sorted(set().union(*emotions.values()) - emotions[TRAIN]):
        yield (
            f"no training clip is {', '.join(missing)}, so the model will not recognise it. Add speakers with this "
            "emotion, or name others in splits.eval_speakers and splits.test_speakers"
        )
