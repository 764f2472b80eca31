"""Examples of a cross-validation, from recordings to arrays."""

import shutil

from modules.data import examples
from modules.demo_corpus.corpus import write_corpus
from pipeline.config import load_config
from pipeline.cross_validation import corpus

SETTINGS = ("training.family=original_cnn", "augmentation.variants=[plain]")


def test_names_and_paths_keep_their_letters(tmp_path):
    write_corpus(tmp_path / "demo", clips=7)
    (tmp_path / "data" / "Bjørn").mkdir(parents=True)
    rows = ["path,emotion,speaker"]
    for number, clip in enumerate(sorted((tmp_path / "demo").rglob("*.wav"))[:3]):
        shutil.copy(clip, tmp_path / "data" / "Bjørn" / f"größer {number}.wav")
        rows.append(f"Bjørn/größer {number}.wav,{('angry', 'sad', 'happy')[number]},Ädelheid {number}")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    read = corpus.load(load_config(overrides=SETTINGS), data=tmp_path / "data", folder=tmp_path / "examples")
    assert set(read.columns[examples.SPEAKER]) == {f"own-Ädelheid {number}" for number in range(3)}
    assert set(read.columns[examples.CLIP_ID]) == {f"own/Bjørn/größer {number}.wav" for number in range(3)}
