"""Reader of the AudioExampleGen's reports."""

import json
import os
from typing import Any

from tfx.utils import io_utils

from components.audio_example_gen.file_names import QUARANTINE_FILE, SUMMARY_FILE
from modules.audio.spec import AudioSpec
from modules.data.labels import SPLITS
from modules.reporting import summary


def protocol(examples_uri: str) -> summary.Protocol:
    """Return the speakers of each split.

    Args:
        examples_uri: Folder of the examples.
    """
    ingest = _read_json(examples_uri, SUMMARY_FILE)
    return summary.Protocol(
        kind="speaker" if ingest["protocol"] == "speaker-disjoint" else "random_clip",
        seed=ingest["seed"],
        speakers={split: tuple(ingest["splits"][split]["speakers"]) for split in SPLITS},
    )


def data(examples_uri: str) -> summary.Data:
    """Return the numbers of ingested recordings, and the rejected ones.

    Args:
        examples_uri: Folder of the examples.
    """
    ingest = _read_json(examples_uri, SUMMARY_FILE)
    quarantine = io_utils.read_string_file(os.path.join(examples_uri, QUARANTINE_FILE)).splitlines()
    return summary.Data(
        splits=tuple(_split_data(split, ingest["splits"][split]) for split in SPLITS),
        quarantined=tuple(_quarantined(json.loads(line)) for line in quarantine),
        synthetic=ingest["synthetic"],
        dropped_labels=ingest["dropped"],
        duplicates=tuple(
            summary.Duplicate(kept=group[0], dropped=other)
            for group in ingest["duplicates"]["groups"]
            for other in group[1:]
        ),
        audio_spec=AudioSpec.model_validate(ingest["audio_spec"]).describe(),
        audio_spec_fingerprint=ingest["audio_spec_fingerprint"],
    )


def emotions(examples_uri: str) -> tuple[str, ...]:
    """Return the emotions of the examples, in the order of a model's outputs.

    Args:
        examples_uri: Folder of the examples.
    """
    return tuple(_read_json(examples_uri, SUMMARY_FILE)["emotions"])


def _split_data(split: str, census: dict[str, Any]) -> summary.SplitData:
    return summary.SplitData(
        split=split,
        clips=census["clips"],
        examples=census["examples"],
        speakers=len(census["speakers"]),
        hours=census["hours"],
        by_corpus=census["corpus"],
        by_emotion=census["emotion"],
        by_sex=census["sex"],
    )


def _quarantined(file: dict[str, str]) -> summary.QuarantinedClip:
    reason, separator, detail = file["reason"].partition(":")
    return summary.QuarantinedClip(path=file["path"], reason=reason, detail=detail.strip() if separator else "")


def _read_json(folder: str, name: str) -> Any:
    return json.loads(io_utils.read_string_file(os.path.join(folder, name)))
