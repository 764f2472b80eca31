"""The cases of the benchmark on some of the real recordings: what must alarm does, and halves of the same do not."""

from pathlib import Path

import pytest

import schema
from benchmarks.drift import CASES, Case, Recordings, Tally, comparisons, read, to_markdown
from components.drift_monitor.comparators import MIN_CLIPS
from modules.drift.settings import DriftSettings
from tests.original import ORIGINAL_AUDIO
from tests.paths import RAVDESS, needs_corpora

EVERY = 6  # of the 60 clips of an actor, every sixth
SPEC = ORIGINAL_AUDIO.replace(feature_family="utterance")
ROUNDS = {False: 5, True: 1}
# Twelve actors differ from twelve others in level by as much as 6 dB make, and so few clips of an emotion do not tell
# which names are mixed up: the benchmark says how often those show.
UNSURE = (
    "other speakers, 6 dB louder",
    "other speakers, 6 dB louder, 300 requests without names",
    "other clips of the same speakers, happy, sad and angry mixed up",
)
SURE = [case for case in CASES if case.name not in UNSURE]


def test_table_has_a_line_for_each_case_and_counts_the_false_alarms():
    tallies = [Tally(20, 20) if case.drifted else Tally(100, 2) for case in CASES]
    lines = to_markdown({"270 features": tallies, "log-mel": tallies}).splitlines()
    assert lines[0] == "| second half | drift? | rounds | alarms, 270 features | alarms, log-mel |"
    assert lines[2] == "| other clips of the same speakers | no | 100 | 2% | 2% |"
    assert len(lines) == 2 + len(CASES) + 2
    assert "Of 400 rounds without drift 8 alarmed with log-mel: 2.0% (0.9% to 3.9%" in lines[-1]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Recordings:
    folder = tmp_path_factory.mktemp("ravdess")
    for actor in RAVDESS.iterdir():
        for file in sorted(actor.iterdir())[::EVERY]:
            Path(folder, file.name).symlink_to(file)
    return read(folder, SPEC)


@needs_corpora
@pytest.mark.parametrize("case", SURE, ids=lambda case: case.name)
def test_what_drifted_alarms_and_nothing_else(case: Case, recordings):
    clips = recordings["as it is"].sample.clips
    assert clips / 2 >= MIN_CLIPS, "or the comparators of the schema would be silent"
    rounds = ROUNDS[case.drifted]
    found = [
        each.drifted
        for each in comparisons(case, recordings, rounds, schema.load(SPEC), DriftSettings(permutations=100))
    ]
    assert sum(found) == rounds if case.drifted else sum(found) <= 1
