import subprocess
import sys

from benchmarks import growth, growth_functions
from components.audio_example_gen.corpora import identify
from modules.data.labels import LabelSettings

RUN = """
import logging, sys, time
from pipeline import progress

log = logging.getLogger()
log.setLevel(logging.INFO)
log.addHandler(progress.ComponentProgress(total=2))
log.info(progress._STARTED, "Large")
large = bytearray(b"1") * (200 * 2**20)
while time.process_time() < 3:
    pass
del large
log.info(progress._FINISHED, "Large")
log.info(progress._STARTED, "Small")
time.sleep(3)
log.info(progress._FINISHED, "Small")
"""


def test_memory_and_time_are_those_of_the_running_component():
    with subprocess.Popen([sys.executable, "-c", RUN], stderr=subprocess.PIPE, text=True) as process:
        costs = growth.watch(process)
    assert [name for name in costs if name != growth.RUNNER] == ["Large", "Small"]
    assert costs["Large"].peak_mib > 200 > costs["Small"].peak_mib
    assert costs["Large"].cpu_sec > costs["Small"].cpu_sec


def test_recordings_of_a_corpus_are_usable_and_different(tmp_path):
    growth.write_corpus(tmp_path, 2 * growth.SPEAKER_CLIPS)
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    found = identify(paths, read_text=lambda path: (tmp_path / path).read_text(), labels=LabelSettings())
    assert len(found.clips) == 2 * growth.SPEAKER_CLIPS
    assert len({clip.speaker for clip in found.clips}) == 2
    assert len({(tmp_path / clip.path).read_bytes() for clip in found.clips}) == len(found.clips)


def test_every_function_runs_and_large_numbers_are_left_out():
    assert all(growth_functions.cpu_seconds(name, 100) is not None for name in growth_functions.FUNCTIONS)
    assert growth_functions.cpu_seconds("drift", growth_functions.CLIPS[-1]) is None


def test_table_has_the_growth_of_components_that_take_time():
    fast, slow = growth.Cost(), growth.Cost()
    slow.cpu_sec, slow.peak_mib = 2.0, 900.0
    slower = growth.Cost()
    slower.cpu_sec, slower.peak_mib = 20.0, 1900.0
    table = growth.runs_table({1_000: {"Trainer": slow, "Pusher": fast}, 10_000: {"Trainer": slower}})
    assert "| Trainer | 2.0 / 900 | 20.0 / 1,900 | 10.0 |" in table
    assert "Pusher" not in table
