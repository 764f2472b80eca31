"""Run the real executor on real Beam over generated recordings."""

import collections
import contextlib
import dataclasses
import filecmp
import io
import json
import os
import posixpath
import re
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import tensorflow as tf
from tfx.components.example_gen.input_processor import FileBasedInputProcessor
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts, standard_component_specs
from tfx.utils import proto_utils

from components.audio_example_gen import data_version, ingest_summary, spans
from components.audio_example_gen.component import AudioExampleGen
from components.audio_example_gen.corpora.scan import scan
from components.audio_example_gen.executor import Executor, make_shards, read_settings
from components.audio_example_gen.files import Folder
from components.audio_example_gen.fingerprint import used_by_tfx
from components.audio_example_gen.ingestion import Shard, WriteShard
from components.audio_example_gen.parquet import AUDIO_SPEC_KEY, FEATURE_SHAPE_KEY, export
from components.audio_example_gen.patterns import level_patterns
from components.audio_example_gen.report import EmptySplit, NoRecordings, OneEmotion, TooManyQuarantined
from modules.audio import frontend
from modules.audio.decoding import AudioLimits, decode
from modules.audio.spec import AudioSpec
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS, SPLITS, LabelSettings
from modules.demo_corpus import MARKER_FILE
from modules.demo_corpus import corpus as demo_corpus
from tests.original import ORIGINAL_AUDIO, ORIGINAL_AUGMENTATION, ORIGINAL_INGEST, ORIGINAL_SPLITS
from tests.paths import CORPORA, needs_corpora

NOBODY = 65_534
CHEAP = ORIGINAL_AUGMENTATION.replace(variants=("plain", "noise"))


def beam_args(*, workers=1):
    mode = "in_memory" if workers == 1 else "multi_threading"
    return [
        "--runner=FnApiRunner",
        f"--direct_num_workers={workers}",
        f"--direct_running_mode={mode}",
        "--sdk_container_image=unused",  # else TFX packs itself for workers that do not exist
    ]


def voice(seed, *, seconds=1.2, rate_hz=16_000, channels=1):
    """Return a buzz of harmonics with an envelope like syllables; it depends on the seed."""
    rng = np.random.default_rng(seed)
    time_sec = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = rng.uniform(90, 250)
    sound = sum(np.sin(2 * np.pi * pitch_hz * k * time_sec + rng.uniform(0, 6)) / k for k in range(1, 12))
    sound *= 0.1 * (1.1 + np.sin(2 * np.pi * 4 * time_sec))
    return np.tile(sound[:, np.newaxis], (1, channels)).astype(np.float32)


def wav_bytes(samples, *, rate_hz=16_000, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()


def stem(actor, number):
    return f"03-01-{number * 3 % 8 + 1:02d}-01-{number // 16 % 2 + 1:02d}-{number // 8 % 2 + 1:02d}-{actor:02d}"


def write_corpus(root, *, actors=6, clips_each=5, levels=1):
    for actor in range(1, actors + 1):
        folder = root.joinpath(*["ravdess"] * (levels - 1), f"Actor_{actor:02d}")
        folder.mkdir(parents=True)
        for number in range(clips_each):
            (folder / f"{stem(actor, number)}.wav").write_bytes(wav_bytes(voice(100 * actor + number)))
    return root


def truncated():
    return wav_bytes(voice(1))[:-4000]


def empty_data_chunk():
    return (
        b"RIFF"
        + struct.pack("<I", 36)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
        + (b"data" + struct.pack("<I", 0))
    )


def not_a_number():
    samples = voice(2)
    samples[500:510] = np.nan
    return wav_bytes(samples, subtype="FLOAT")


USABLE = {
    "8 bit": lambda: wav_bytes(voice(11), subtype="PCM_U8"),
    "24 bit": lambda: wav_bytes(voice(12), subtype="PCM_24"),
    "32 bit": lambda: wav_bytes(voice(13), subtype="PCM_32"),
    "float": lambda: wav_bytes(voice(14), subtype="FLOAT"),
    "stereo": lambda: wav_bytes(voice(15, channels=2)),
    "6 channels": lambda: wav_bytes(voice(16, channels=6)),
    "8 kHz": lambda: wav_bytes(voice(17, rate_hz=8_000), rate_hz=8_000),
    "192 kHz": lambda: wav_bytes(voice(18, rate_hz=192_000), rate_hz=192_000),
}
UNUSABLE = {
    "truncated": (truncated, "AUDIO_TRUNCATED"),
    "empty": (lambda: b"", "AUDIO_EMPTY"),
    "zero-length data": (empty_data_chunk, "AUDIO_NO_SAMPLES"),
    "text": (lambda: b"These are the lines of a poem.\n" * 40, "AUDIO_UNREADABLE"),
    "not a number": (not_a_number, "AUDIO_NOT_FINITE"),
    "0.05 s": (lambda: wav_bytes(voice(3, seconds=0.05)), "AUDIO_TOO_SHORT"),
    "20 minutes": (lambda: wav_bytes(np.ones(20 * 60 * 8_000, np.float32), rate_hz=8_000), "AUDIO_TOO_LONG"),
    "silent window": (lambda: wav_bytes(np.pad(voice(6, seconds=0.3), ((0, 5 * 16_000), (0, 0)))), "AUDIO_SILENT"),
    "all zero": (lambda: wav_bytes(np.zeros(16_000, np.float32)), "AUDIO_SILENT"),
}
ODD_ACTOR = 5


def odd_path(index):
    """Return a path with a number that the ordinary recordings do not use."""
    return f"Actor_{ODD_ACTOR:02d}/{stem(ODD_ACTOR, 8 + index)}.wav"


ODD_PATHS = {name: odd_path(index) for index, name in enumerate([*USABLE, *UNUSABLE, "a folder"])}


def write_odd_recordings(root):
    for name, make in USABLE.items():
        (root / ODD_PATHS[name]).write_bytes(make())
    for name, (make, _) in UNUSABLE.items():
        (root / ODD_PATHS[name]).write_bytes(make())
    (root / ODD_PATHS["a folder"]).mkdir()
    (root / "interview.wav").write_bytes(wav_bytes(voice(4)))
    (root / "notes.txt").write_text("not sound\n")
    (root / ".DS_Store").write_text("hidden\n")
    deep = root.joinpath(*"abcde")
    deep.mkdir(parents=True)
    (deep / f"{stem(6, 15)}.wav").write_bytes(wav_bytes(voice(5)))


@dataclasses.dataclass
class Run:
    """An execution's output."""

    folder: Path

    def examples(self, split):
        files = sorted(str(path) for path in (self.folder / f"Split-{split}").iterdir())
        records = tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()
        return [tf.train.Example.FromString(record).features.feature for record in records]

    @property
    def summary(self):
        return json.loads((self.folder / "ingest.json").read_text())

    def lines(self, name):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    @property
    def reasons(self):
        return {line["path"]: line["reason"] for line in self.lines("quarantine.jsonl")}


def execute(data, folder, settings, *, workers=1, further_beam_args=()):
    """Run the executor as a TFX launcher does."""
    component = AudioExampleGen(input_base=str(data), settings=settings)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    beam_pipeline_args = [*beam_args(workers=workers), *further_beam_args]
    executor = Executor(BaseBeamExecutor.Context(beam_pipeline_args=beam_pipeline_args))
    executor.Do({}, {standard_component_specs.EXAMPLES_KEY: [artifact]}, component.exec_properties)
    return artifact, Run(folder)


def text_of(feature):
    return feature.bytes_list.value[0].decode()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """One ingestion of good recordings among every kind of odd one."""
    data = write_corpus(tmp_path_factory.mktemp("odd"), clips_each=8)
    write_odd_recordings(data)
    fold = ORIGINAL_SPLITS.replace(eval_speakers=("ravdess-05",), test_speakers=("ravdess-06",))
    _, run = execute(
        data, tmp_path_factory.mktemp("out") / "odd", ORIGINAL_INGEST.replace(splits=fold, max_quarantined_share=0.3)
    )
    return data, run


@pytest.fixture(scope="module")
def artifact_and_run(corpus, tmp_path_factory):
    return execute(corpus, tmp_path_factory.mktemp("out") / "1", ORIGINAL_INGEST.replace(seed=3))


def test_synthetic_speech_is_counted_without_its_marker(tmp_path):
    demo_corpus.write_corpus(tmp_path / "data", clips=24, workers=1)
    (tmp_path / "data" / MARKER_FILE).unlink()
    execute(tmp_path / "data", tmp_path / "out", ORIGINAL_INGEST)
    data = ingest_summary.data(str(tmp_path / "out"))
    assert data.corpora == ("ravdess",)
    assert data.synthetic == data.clips == 24
    assert data.is_synthetic


def test_recordings_are_not_synthetic(artifact_and_run):
    artifact, _ = artifact_and_run
    assert not ingest_summary.data(artifact.uri).is_synthetic


@pytest.mark.parametrize("name", USABLE)
def test_unusual_formats_are_used(name, odd):
    data, run = odd
    clip_id = f"ravdess/{ODD_PATHS[name]}"
    [example] = [one for one in run.examples("eval") if text_of(one["clip_id"]) == clip_id]
    recording = decode((data / ODD_PATHS[name]).read_bytes())
    expected, _ = frontend.features_of_waveform(recording.samples, recording.sample_rate_hz, ORIGINAL_AUDIO)
    np.testing.assert_allclose(example["features"].float_list.value, expected.numpy().ravel(), rtol=1e-4, atol=1e-4)
    assert example["native_sample_rate_hz"].int64_list.value[0] == recording.sample_rate_hz
    assert example["duration_sec"].float_list.value[0] == pytest.approx(1.2)
    window = frontend.window_of_waveform(recording.samples, recording.sample_rate_hz, ORIGINAL_AUDIO)
    assert example["window_sec"].float_list.value[0] == pytest.approx(float(window.start_sec))
    assert example["speech"].float_list.value[0] == pytest.approx(float(window.speech), abs=1e-4)


@pytest.mark.parametrize("name", UNUSABLE)
def test_bad_audio_is_quarantined_with_its_reason(name, odd):
    _, run = odd
    assert UNUSABLE[name][1] in run.reasons[ODD_PATHS[name]]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (ODD_PATHS["a folder"], "a folder"),
        ("interview.wav", "manifest.csv"),
        (f"a/b/c/d/e/{stem(6, 15)}.wav", " 5 "),
    ],
)
def test_files_that_are_not_recordings_are_quarantined(path, reason, odd):
    assert reason in odd[1].reasons[path]


def test_every_file_is_used_or_quarantined(odd):
    _, run = odd
    assert len(run.reasons) == len(UNUSABLE) + 3
    assert run.summary["clips"] == 6 * 8 + len(USABLE)
    assert run.summary["quarantined"]["clips"] == len(run.reasons)
    assert sum(run.summary["quarantined"]["reasons"].values()) == len(run.reasons)
    assert run.summary["quarantined"]["reasons"]["AUDIO_TOO_SHORT"] == 1
    assert len(run.lines("clips.jsonl")) == 6 * 8 + len(USABLE) + len(UNUSABLE)


@contextlib.contextmanager
def unprivileged():
    """Run as user nobody for a while, since permissions do not bind root."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except PermissionError:
        pytest.skip("root that may not become another user: permissions cannot be made to bind")
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_file_is_quarantined():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        path = Path(folder) / f"{stem(1, 0)}.wav"
        path.write_bytes(wav_bytes(voice(1)))
        path.chmod(0)
        clip = Clip(path=path.name, corpus="ravdess", emotion="neutral", speaker="ravdess-01")
        with unprivileged():
            shard = Shard("eval", "examples.gz", ((clip,),))
            [outcome] = WriteShard(folder, folder, ORIGINAL_INGEST, EMOTIONS).process(shard)
    assert outcome.reason.startswith("AUDIO_UNREADABLE: ")
    assert "ermission denied" in outcome.reason  # the message of the file system
    assert outcome.examples == 0


def test_a_file_above_the_size_limit_is_quarantined(tmp_path):
    (tmp_path / "x.wav").write_bytes(wav_bytes(voice(1)))
    clip = Clip(path="x.wav", corpus="own", emotion="neutral", speaker="own-1")
    settings = ORIGINAL_INGEST.replace(limits=AudioLimits(max_bytes=1000))
    shard = Shard("eval", "examples.gz", ((clip,),))
    [outcome] = WriteShard(str(tmp_path), str(tmp_path), settings, EMOTIONS).process(shard)
    assert outcome.reason.startswith("AUDIO_TOO_LARGE: ")


def test_the_graph_of_the_beam_pipeline_does_not_grow_with_the_recordings(tmp_path, monkeypatch):
    made = []

    def make_beam_pipeline(executor):
        made.append(pipeline := make(executor))
        return pipeline

    make = Executor._make_beam_pipeline
    monkeypatch.setattr(Executor, "_make_beam_pipeline", make_beam_pipeline)
    for clips_each in (2, 4):
        data = write_corpus(tmp_path / f"data-{clips_each}", clips_each=clips_each)
        _, run = execute(data, tmp_path / f"out-{clips_each}", ORIGINAL_INGEST)
        assert not (run.folder / "shards.jsonl").exists()
    small, large = (len(pipeline.to_runner_api().SerializeToString()) for pipeline in made)
    assert large - small < 100  # bytes; the names of twelve more recordings alone have more


def test_the_model_has_the_emotions_that_occur_in_the_order_of_the_settings(tmp_path):
    for actor in range(1, 5):
        for number, code in enumerate(("02", "05", "06")):  # calm, angry, fear
            path = tmp_path / "data" / f"03-01-{code}-01-01-01-{actor:02}.wav"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(wav_bytes(voice(actor * 10 + number)))
    labels = LabelSettings(emotions=("happy", "rest", "angry"), mapping={"calm": "rest", "fear": "angry"})
    _, run = execute(tmp_path / "data", tmp_path / "out", ORIGINAL_INGEST.replace(labels=labels))
    assert run.summary["emotions"] == ["rest", "angry"]
    ids = {
        text_of(example["emotion"]): example["emotion_id"].int64_list.value[0]
        for split in SPLITS
        for example in run.examples(split)
    }
    assert ids == {"rest": 0, "angry": 1}


def test_recordings_of_one_emotion_are_an_error(tmp_path):
    write_corpus(tmp_path / "data", clips_each=1)
    labels = LabelSettings(emotions=("neutral", "happy"))
    with pytest.raises(OneEmotion):
        execute(tmp_path / "data", tmp_path / "out", ORIGINAL_INGEST.replace(labels=labels))


def test_only_training_clips_have_augmented_copies(artifact_and_run):
    _, run = artifact_and_run
    copies = collections.defaultdict(set)
    for example in run.examples("train"):
        copies[text_of(example["clip_id"])].add(text_of(example["augmentation"]))
    assert copies
    assert all(variants == {"plain", "noise", "pitch", "pitch+noise"} for variants in copies.values())
    for split in ("eval", "test"):
        assert {text_of(example["augmentation"]) for example in run.examples(split)} == {"plain"}


def test_an_example_has_speaker_and_audio_spec(artifact_and_run):
    _, run = artifact_and_run
    for split in ("train", "eval", "test"):
        for example in run.examples(split):
            path = text_of(example["clip_id"]).removeprefix("ravdess/")
            actor = int(path[6:8])
            assert text_of(example["speaker"]) == f"ravdess-{actor:02d}"
            assert text_of(example["sex"]) == ("female" if actor % 2 == 0 else "male")
            assert text_of(example["audio_spec"]) == ORIGINAL_AUDIO.fingerprint
            assert np.isfinite(example["features"].float_list.value).all()


def test_the_version_of_the_data_is_that_of_the_files(artifact_and_run, corpus, tmp_path):
    version = data_version.read(artifact_and_run[0].uri)
    assert version.root == str(corpus)
    assert len(version.sha256) == 6 * 5
    assert not data_version.compare(version, str(corpus))
    other = tmp_path / "other"
    shutil.copytree(corpus, other)
    changed, missing, relabelled = (f"Actor_{actor:02d}/{stem(actor, 0)}.wav" for actor in (1, 2, 3))
    content = (other / changed).read_bytes()
    (other / changed).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (other / missing).unlink()
    (other / "Actor_03" / "manifest.csv").write_text(f"path,emotion,speaker\n{Path(relabelled).name},sad,3\n")
    additional = f"Actor_04/{stem(4, 9)}.wav"
    (other / additional).write_bytes(content)
    assert dataclasses.asdict(data_version.compare(version, str(other))) == {
        "changed": (changed,),
        "missing": (missing,),
        "relabelled": (relabelled,),
        "additional": (additional,),
    }


def test_a_folder_without_examples_has_no_version_of_the_data(tmp_path):
    for read in (
        data_version.read,
        data_version.newest_examples,
        lambda folder: export(folder, tmp_path / "x.parquet"),
    ):
        with pytest.raises(data_version.NoDataVersion) as refused:
            read(str(tmp_path))
        assert refused.value.code == "data_version.missing"
    assert list(tmp_path.iterdir()) == []


def test_the_exported_table_has_every_example(artifact_and_run, tmp_path):
    artifact, run = artifact_and_run
    table = tmp_path / "features.parquet"
    splits = ("train", "eval", "test")
    examples = [(split, example) for split in splits for example in run.examples(split)]
    assert export(artifact.uri, table) == len(examples)
    frame = pyarrow.parquet.read_table(table)
    for name in ("clip_id", "corpus", "speaker", "sex", "emotion", "intensity", "augmentation"):
        assert frame[name].to_pylist() == [text_of(example[name]) for _, example in examples]
    for name in ("emotion_id", "valid_frames", "native_sample_rate_hz"):
        assert frame[name].to_pylist() == [example[name].int64_list.value[0] for _, example in examples]
    assert frame["split"].to_pylist() == [split for split, _ in examples]
    features = np.stack(frame["features"].to_numpy())
    np.testing.assert_array_equal(
        features, np.array([example["features"].float_list.value for _, example in examples], np.float32)
    )
    assert tuple(json.loads(frame.schema.metadata[FEATURE_SHAPE_KEY])) == ORIGINAL_AUDIO.feature_shape
    assert AudioSpec.model_validate_json(frame.schema.metadata[AUDIO_SPEC_KEY]) == ORIGINAL_AUDIO


def test_copies_of_one_clip_differ(artifact_and_run):
    _, run = artifact_and_run
    features = collections.defaultdict(list)
    for example in run.examples("train"):
        features[text_of(example["clip_id"])].append(tuple(example["features"].float_list.value))
    assert all(len(set(variants)) == 4 for variants in features.values())


def test_the_summary_counts_the_written_examples(artifact_and_run):
    _, run = artifact_and_run
    summary = run.summary
    assert summary["clips"] == 30
    assert summary["corpus"] == {"ravdess": 30}
    assert summary["protocol"] == "speaker-disjoint"
    assert summary["seed"] == 3
    assert summary["audio_spec_fingerprint"] == ORIGINAL_AUDIO.fingerprint
    assert summary["hours"] == pytest.approx(30 * 1.2 / 3600)
    speakers = [set(summary["splits"][split]["speakers"]) for split in ("train", "eval", "test")]
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 6
    for split in ("train", "eval", "test"):
        assert summary["splits"][split]["examples"] == len(run.examples(split))
        assert sum(summary["splits"][split]["emotion"].values()) == summary["splits"][split]["clips"]


def test_the_artifact_names_splits_and_format(artifact_and_run):
    artifact, _ = artifact_and_run
    assert json.loads(artifact.split_names) == ["train", "eval", "test"]
    assert artifact.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    assert artifact.get_string_custom_property("file_format") == "tfrecords_gzip"


@pytest.mark.parametrize(
    "engine",
    [
        {"workers": 2},
        {"further_beam_args": ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")},
    ],
    ids=["two workers", "portable runner"],
)
def test_every_engine_writes_the_same_bytes(corpus, artifact_and_run, tmp_path, engine):
    _, one = artifact_and_run
    _, two = execute(corpus, tmp_path / "two", ORIGINAL_INGEST.replace(seed=3), **engine)
    files = sorted(str(path.relative_to(one.folder)) for path in one.folder.rglob("*") if path.is_file())
    assert len(files) == 6
    same, different, missing = filecmp.cmpfiles(one.folder, two.folder, files, shallow=False)
    assert (sorted(same), different, missing) == (files, [], [])


def test_another_seed_writes_other_noise(corpus, artifact_and_run, tmp_path):
    fold = ORIGINAL_SPLITS.replace(eval_speakers=("ravdess-01",), test_speakers=("ravdess-02",))
    noise = [
        {
            text_of(example["clip_id"]): tuple(example["features"].float_list.value)
            for example in run.examples("train")
            if text_of(example["augmentation"]) == "noise"
        }
        for run in (
            execute(corpus, tmp_path / str(seed), ORIGINAL_INGEST.replace(splits=fold, augmentation=CHEAP, seed=seed))[
                1
            ]
            for seed in (0, 1)
        )
    ]
    assert noise[0].keys() == noise[1].keys()
    assert all(noise[0][clip_id] != noise[1][clip_id] for clip_id in noise[0])


def test_logmel_frames_beyond_a_short_clip_are_marked(corpus, tmp_path):
    spec = ORIGINAL_AUDIO.replace(feature_family="logmel")
    _, run = execute(corpus, tmp_path / "logmel", ORIGINAL_INGEST.replace(audio=spec, augmentation=CHEAP))
    for example in run.examples("eval"):
        assert len(example["features"].float_list.value) == np.prod(spec.feature_shape)
        assert example["valid_frames"].int64_list.value[0] == 1 + round(1.2 * 22_050) // 512


def test_duplicates_are_used_once(tmp_path):
    data = write_corpus(tmp_path / "data", actors=3, clips_each=2)
    shutil.copytree(data / "Actor_01", data / "copy" / "Actor_01")
    shutil.copy(data / "Actor_02" / f"{stem(2, 0)}.wav", data / "Actor_03" / f"{stem(3, 8)}.wav")
    _, run = execute(data, tmp_path / "out", ORIGINAL_INGEST.replace(augmentation=CHEAP, max_quarantined_share=0))
    assert run.summary["clips"] == 6
    assert run.summary["duplicates"]["clips"] == 3
    assert [f"Actor_02/{stem(2, 0)}.wav", f"Actor_03/{stem(3, 8)}.wav"] in run.summary["duplicates"]["groups"]
    written = [text_of(one["clip_id"]) for split in ("train", "eval", "test") for one in run.examples(split)]
    assert len(set(written)) == 6
    assert not any("copy" in clip_id for clip_id in written)


def test_the_same_sound_with_two_labels_is_not_used(tmp_path):
    data = write_corpus(tmp_path / "data", actors=3, clips_each=2)
    original, other = data / "Actor_02" / f"{stem(2, 0)}.wav", data / "Actor_03" / f"{stem(3, 2)}.wav"
    shutil.copy(original, other)
    _, run = execute(data, tmp_path / "out", ORIGINAL_INGEST.replace(augmentation=CHEAP, max_quarantined_share=0.5))
    assert run.summary["clips"] == 5
    assert run.summary["quarantined"]["clips"] == 2
    written = {text_of(one["clip_id"]) for split in ("train", "eval", "test") for one in run.examples(split)}
    assert len(written) == 5
    assert not [clip_id for clip_id in written if original.stem in clip_id or other.stem in clip_id]


def test_too_many_quarantined_files_fail_the_run(tmp_path):
    data = write_corpus(tmp_path / "data", actors=4, clips_each=2)
    for actor in (1, 2):
        (data / f"Actor_{actor:02d}" / f"{stem(actor, 7)}.wav").write_bytes(truncated())

    settings = ORIGINAL_INGEST.replace(augmentation=CHEAP, max_quarantined_share=0.19)
    with pytest.raises(TooManyQuarantined) as raised:
        execute(data, tmp_path / "out", settings)
    listed = [json.loads(line) for line in Path(str(raised.value).split()[-1]).read_text().splitlines()]
    assert [line["path"] for line in listed] == [f"Actor_{actor:02d}/{stem(actor, 7)}.wav" for actor in (1, 2)]
    assert not Path(str(raised.value).split()[-1]).is_relative_to(tmp_path / "out")  # TFX deletes that


def test_a_split_without_a_usable_clip_is_an_error(tmp_path):
    data = write_corpus(tmp_path / "data", actors=3, clips_each=1)
    (data / "Actor_02" / f"{stem(2, 0)}.wav").write_bytes(b"")
    fold = ORIGINAL_SPLITS.replace(eval_speakers=("ravdess-01",), test_speakers=("ravdess-02",))
    settings = ORIGINAL_INGEST.replace(augmentation=CHEAP, splits=fold, max_quarantined_share=1)
    with pytest.raises(EmptySplit) as error:
        execute(data, tmp_path / "out", settings)
    assert "1 x AUDIO_EMPTY" in str(error.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "/data "),
        (lambda root: root.mkdir(), "ravdess"),
        (lambda root: root.touch(), "/data "),
        (
            lambda root: (root.mkdir(), (root / "me.wav").write_bytes(b"RIFF")),
            r"me\.wav, .*manifest\.csv",
        ),
    ],
    ids=["missing", "empty", "a file", "unknown names"],
)
def test_a_folder_without_recordings_is_an_error(make, message, tmp_path):
    make(tmp_path / "data")
    with pytest.raises(NoRecordings, match=message):
        execute(tmp_path / "data", tmp_path / "out", ORIGINAL_INGEST)


def test_shards_depend_on_clips_and_settings_alone():
    clips = [
        Clip(path=f"{number:04d}.wav", corpus="own", emotion="sad", speaker=f"own-{number // 100}")
        for number in range(2000)
    ]
    split_of = {clip.clip_id: "train" if number < 1400 else "test" for number, clip in enumerate(clips)}
    shards = list(make_shards(clips, split_of, ORIGINAL_INGEST))
    assert shards == list(make_shards(clips[::-1], split_of, ORIGINAL_INGEST))
    assigned = [(clip, shard.split) for shard in shards for batch in shard.batches for clip in batch]
    assert sorted(clip.path for clip, _ in assigned) == [clip.path for clip in clips]
    assert all(split_of[clip.clip_id] == split for clip, split in assigned)
    sizes = {shard.split: {len(batch) for batch in shard.batches} for shard in shards[:-1]}
    assert sizes == {"train": {2}, "test": {8}}
    in_test = [shard for shard in shards if shard.split == "test"]
    assert [sum(map(len, shard.batches)) for shard in in_test] == [*[64] * 9, 24]
    assert [shard.path for shard in in_test] == [
        f"Split-test/data_tfrecord-{number:05}-of-00010.gz" for number in range(10)
    ]
    assert all(len({clip.speaker for batch in shard.batches for clip in batch}) > 5 for shard in shards)


def test_the_executor_reads_the_packed_settings():
    settings = ORIGINAL_INGEST.replace(
        audio=ORIGINAL_AUDIO.replace(feature_family="logmel", window_sec=3.0),
        splits=ORIGINAL_SPLITS.replace(test_speakers=("ravdess-01",), seed=2**32 - 1),
        augmentation=ORIGINAL_AUGMENTATION.replace(variants=("plain", "shift+stretch")),
        limits=AudioLimits(max_duration_sec=20.5),
        pattern="span-{SPAN:3}/*",
        spans=4,
        max_quarantined_share=0.5,
        seed=7,
    )
    component = AudioExampleGen(input_base="/data", settings=settings)
    assert read_settings(component.exec_properties) == settings


@pytest.mark.parametrize(
    ("pattern", "levels"),
    [
        ("*", ["*"]),
        ("*/*/*", ["*", "*/*", "*/*/*"]),
        ("span-{SPAN}/*/*", ["span-{SPAN}/*", "span-{SPAN}/*/*"]),
        ("span-{SPAN:4}/v{VERSION}/*", ["span-{SPAN:4}/v{VERSION}/*"]),
    ],
)
def test_every_level_of_folders_has_its_pattern(pattern, levels):
    assert level_patterns(pattern) == levels


@pytest.mark.parametrize("pattern", ["", "**", "span-{SPAN}", "*/a/*", "*.wav", "a*/*", "span-{SPAN}/**"])
def test_patterns_with_other_wildcards_are_refused(pattern):
    with pytest.raises(ValueError, match=r"span-\{SPAN\}"):
        level_patterns(pattern)


def test_wildcards_in_the_folder_are_refused():
    with pytest.raises(ValueError, match=r"/data/old\*"):
        AudioExampleGen(input_base="/data/old*")


def test_brackets_in_names_are_names(tmp_path):
    data = tmp_path / "[old] what?"
    write_corpus(data / "[a]", actors=1, clips_each=2)
    listed = Folder(str(data), level_patterns("*/*/*/*")).paths()
    assert listed == sorted(path.relative_to(data).as_posix() for path in data.rglob("*.wav"))
    assert listed
    fingerprint = resolve(data, "*/*/*/*")[0]
    (data / listed[0]).unlink()
    assert resolve(data, "*/*/*/*")[0] != fingerprint


def test_brackets_in_the_folder_of_spans_are_refused():
    with pytest.raises(ValueError, match=r"/data/\[old\]"):
        AudioExampleGen(input_base="/data/[old]", settings=ORIGINAL_INGEST.replace(pattern="span-{SPAN}/*"))


def test_what_is_not_a_file_is_passed_over_with_its_reason(tmp_path):
    write_corpus(tmp_path / "data", actors=1, clips_each=2)
    files = Folder(str(tmp_path / "data"), level_patterns("*/*/*/*")).paths()
    place = (tmp_path / "data" / files[0]).parent
    (place / "dangling.wav").symlink_to("/nowhere.wav")
    (place / "loop.wav").symlink_to("loop.wav")
    (place / "around").symlink_to(tmp_path / "data")
    (place / "@eaDir" / "a.wav").mkdir(parents=True)
    os.mkfifo(place / "pipe.wav")
    folder = Folder(str(tmp_path / "data"), level_patterns("*/*/*/*"))
    assert folder.paths() == files  # "around" leads into each folder once more
    reasons = {posixpath.basename(file.path): file.reason for file in folder.unread()}
    assert reasons["dangling.wav"] == "a broken link"
    assert reasons["loop.wav"]
    assert reasons["pipe.wav"] == "not a regular file"
    assert not any("@eaDir" in file.path for file in folder.unread())


def test_a_folder_has_its_own_path_where_a_link_leads_to_it_too(tmp_path):
    write_corpus(tmp_path / "z", actors=1, clips_each=1)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "link").symlink_to(tmp_path / "z")
    folder = Folder(str(tmp_path), level_patterns("*/*/*"))
    assert [path.split("/")[0] for path in folder.paths()] == ["z"]
    assert folder.unread() == []
    assert [sound.clip.path for sound in scan(str(tmp_path)).sounds] == folder.paths()


def resolve(data, pattern="*/*/*/*/*"):
    """Return the fingerprint and the span that the driver finds."""
    component = AudioExampleGen(input_base=str(data), settings=ORIGINAL_INGEST.replace(pattern=pattern))
    config = example_gen_pb2.Input()
    proto_utils.json_to_proto(component.exec_properties[standard_component_specs.INPUT_CONFIG_KEY], config)
    processor = FileBasedInputProcessor(str(data), config.splits)
    with used_by_tfx():
        span, version = processor.resolve_span_and_version()
    return processor.get_input_fingerprint(span, version), span


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_fingerprint_covers_every_level(levels, tmp_path):
    data = write_corpus(tmp_path, actors=1, clips_each=1, levels=levels)
    [wav] = data.rglob("*.wav")
    os.utime(wav, (1_000_000_000, 1_000_000_000))
    seen = [resolve(data)[0]]
    assert resolve(data)[0] == seen[0]
    os.utime(wav, (1_000_000_001, 1_000_000_001))
    seen.append(resolve(data)[0])
    (wav.parent / "manifest.csv").write_text("path,emotion,speaker\n")
    seen.append(resolve(data)[0])
    wav.unlink()
    seen.append(resolve(data)[0])
    assert len(set(seen)) == 4


def test_the_fingerprint_covers_names(tmp_path):
    one, other = tmp_path / "angry.wav", tmp_path / "happy.wav"
    for path in (one, other):
        path.write_bytes(b"the same length")
        os.utime(path, (1_000_000_000, 1_000_000_000))
    before = resolve(tmp_path, "*")[0]
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    assert resolve(tmp_path, "*")[0] != before


@pytest.mark.parametrize(("levels", "pattern"), [(1, "span-{SPAN}/*/*"), (2, "span-{SPAN}/*/*/*")])
def test_the_driver_finds_the_latest_span(levels, pattern, tmp_path):
    for span in (2, 10, 9):
        write_corpus(tmp_path / f"span-{span}", actors=1, clips_each=1, levels=levels)
    assert resolve(tmp_path, pattern)[1] == 10


def test_a_pattern_deeper_than_the_spans_is_an_error(tmp_path):
    write_corpus(tmp_path / "span-1", actors=1, clips_each=1)
    with pytest.raises(ValueError, match=re.escape("span-{SPAN}/*/*/*")):
        resolve(tmp_path, "span-{SPAN}/*/*/*")


def run_dag(root, data, *, spans=1):
    """One run of a pipeline that only ingests; returns the folders of all examples so far."""
    settings = ORIGINAL_INGEST.replace(augmentation=CHEAP, pattern="span-{SPAN}/*/*", spans=spans)
    component = AudioExampleGen(input_base=str(data), settings=settings)
    LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="spans",
            pipeline_root=str(root / "artifacts"),
            components=[component],
            enable_cache=True,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(root / "metadata.db")),
            beam_pipeline_args=beam_args(),
        )
    )
    return sorted((root / "artifacts" / "AudioExampleGen" / "examples").iterdir(), key=lambda path: int(path.name))


def test_a_new_span_is_ingested_and_an_old_one_is_cached(tmp_path):
    data = tmp_path / "data"
    write_corpus(data / "span-1", actors=3, clips_each=2)
    [first] = run_dag(tmp_path, data)
    assert run_dag(tmp_path, data) == [first]
    write_corpus(data / "span-2", actors=3, clips_each=3)
    _, second = run_dag(tmp_path, data)
    assert Run(first).summary["clips"] == 6
    assert Run(second).summary["clips"] == 9
    assert Run(second).summary["root"] == str(data / "span-2")
    assert {line["path"][:6] for line in Run(second).lines("clips.jsonl")} == {"Actor_"}


def splits_of_speakers(run):
    return {line["speaker"]: line["split"] for line in run.lines("clips.jsonl")}


def test_speakers_keep_their_splits_in_a_rolling_window(tmp_path):
    data = tmp_path / "data"
    write_corpus(data / "span-1", actors=3, clips_each=1)
    write_corpus(data / "span-2", actors=4, clips_each=2)
    [first] = run_dag(tmp_path, data, spans=2)
    write_corpus(data / "span-10", actors=5, clips_each=3)
    _, alone = run_dag(tmp_path, data, spans=2)
    (data / "span-10").rename(data / "span-3")
    *_, second = run_dag(tmp_path, data, spans=2)
    assert Run(first).summary["spans"] == {"span-1": 3, "span-2": 8 - 3}
    assert Run(first).summary["duplicates"]["clips"] == 3, "the first clip of everyone in span 1 came again"
    assert Run(alone).summary["spans"] == {"span-10": 15}, "span 9 is missing"
    assert Run(second).summary["spans"] == {"span-2": 8, "span-3": 15 - 8}
    assert Run(second).summary["root"] == str(data)
    assert {line["path"].split("/")[0] for line in Run(second).lines("clips.jsonl")} == {"span-2", "span-3"}
    early, late = splits_of_speakers(Run(first)), splits_of_speakers(Run(second))
    assert early.items() <= late.items()
    assert len(late) == len(early) + 1


def test_the_fingerprint_covers_the_window_of_spans(tmp_path):
    data = tmp_path / "data"
    for span in (1, 2, 3):
        write_corpus(data / f"span-{span}", actors=3, clips_each=span)
    [first] = run_dag(tmp_path, data, spans=2)
    shutil.rmtree(data / "span-1" / "Actor_03")
    assert run_dag(tmp_path, data, spans=2) == [first], "span 1 is not in it"
    (data / "span-2" / "Actor_01" / f"{stem(1, 1)}.wav").unlink()
    assert len(run_dag(tmp_path, data, spans=2)) == 2


def test_the_newest_version_of_each_span_is_read(tmp_path):
    pattern = "new/span-{SPAN:3}/v{VERSION}/*"
    for span, version in ((7, 1), (8, 2), (8, 10), (9, 1)):
        write_corpus(tmp_path / "new" / f"span-{span:03d}" / f"v{version}", actors=1, clips_each=1)
    (tmp_path / "new" / "span-abc" / "v1").mkdir(parents=True)
    newest = spans.spans_until(8, str(tmp_path), level_patterns(pattern))
    assert [(span.number, span.patterns) for span in newest] == [
        (7, ("new/span-007/v1/*",)),
        (8, ("new/span-008/v10/*",)),
    ]
    assert spans.fixed_folder(pattern) == "new"


@needs_corpora
def test_real_recordings_are_ingested(tmp_path):
    for actor in ("Actor_01", "Actor_02", "Actor_03"):
        (tmp_path / "data" / actor).mkdir(parents=True)
        for recording in sorted((CORPORA / "ravdess" / actor).iterdir())[::10]:
            (tmp_path / "data" / actor / recording.name).symlink_to(recording)
    _, run = execute(
        tmp_path / "data", tmp_path / "out", ORIGINAL_INGEST.replace(augmentation=CHEAP, max_quarantined_share=0)
    )
    assert run.summary["clips"] == 18
    assert run.summary["sex"] == {"female": 6, "male": 12}
    for example in run.examples("test"):
        assert example["native_sample_rate_hz"].int64_list.value[0] == 22_050
        zero_crossing_rate, rms = example["features"].float_list.value[:2]
        assert 0.01 < zero_crossing_rate < 0.5
        assert 1e-4 < rms < 0.5


def test_progress_is_visible_while_it_runs(corpus, tmp_path, capsys):
    execute(corpus, tmp_path / "out", ORIGINAL_INGEST.replace(augmentation=CHEAP))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("AudioExampleGen")]
    assert lines[-1].startswith("AudioExampleGen  30/30 clips  100 %")
