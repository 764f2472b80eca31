from benchmarks import memory
from pipeline.config import load_config


def test_synthetic_examples_are_read_and_trained_on(tmp_path):
    spec = load_config().audio
    for split, clips in (("train", 64), ("eval", 16)):
        memory.write_split(tmp_path, split, clips, spec)
    measured = memory.train(tmp_path, 64)
    assert measured["clips"] == 64
    assert measured["peak_mib"] > 0
