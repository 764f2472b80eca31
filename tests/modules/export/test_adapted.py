"""``ser adapt``: trained models that are adapted to quiet, muffled recordings, and what cannot be adapted."""

import json
import posixpath
import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.signal
import soundfile
import tensorflow as tf
import tensorflow_transform as tft

from cli.exits import ExitCode
from cli.main import main
from components.atomic_pusher.executor import find_pushed, push
from components.serving_validator.requests import request, warmup_requests
from modules.audio import frontend
from modules.audio.decoding import DEFAULT_LIMITS, decode
from modules.data import examples
from modules.data.adaptation import Adaptation, adapt
from modules.data.dataset import plain_constants, read_split
from modules.data.preprocessing import Constants
from modules.data.statistics import Statistics
from modules.demo_corpus.corpus import write_corpus
from modules.export import adapted, manifest, signatures
from modules.export.contract import EXTRA_ASSETS, STATISTICS_FILE, load_contract
from modules.reporting import model_card
from serving.batch.plan import find_model
from tests.keys import write_keys
from tests.loaders.c_api import CApiModel
from tests.modules.reporting.test_model_card import card_of
from tests.original import ORIGINAL_AUDIO

TOLERANCE = 1e-5
CLIPS = 42


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Speech without labels at another place, one broken file and one recording twice."""
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "demo", clips=CLIPS, seed=0)
    (folder / "recordings").mkdir()
    for number, path in enumerate(sorted((folder / "demo").rglob("*.wav"))):
        samples, rate_hz = soundfile.read(path)
        muffled = scipy.signal.lfilter(*scipy.signal.butter(2, 1500, fs=rate_hz), samples)
        soundfile.write(folder / "recordings" / f"{number:02}.wav", 0.3 * muffled, rate_hz)
    (folder / "recordings" / "broken.wav").write_bytes(b"no sound")
    shutil.copy(folder / "recordings" / "00.wav", folder / "recordings" / "same.wav")
    return folder / "recordings"


@pytest.fixture(scope="module")
def framed(make_raw_example, run_transform, tmp_path_factory) -> types.SimpleNamespace:
    """A model of features over time, and its Keras model, trained on plain clips and on louder copies of them."""
    spec, folder = ORIGINAL_AUDIO.replace(feature_family="logmel"), tmp_path_factory.mktemp("framed")
    plain = [make_raw_example(spec, emotion, number) for emotion in range(7) for number in range(3)]
    run_transform(spec, {"train": [*plain, *map(as_augmented, plain)]}, folder)
    transform = tft.TFTransformOutput(str(folder / "graph"))
    keras.utils.set_random_seed(1)
    features = keras.Input(spec.feature_shape, name="features")
    valid_frames = keras.Input((), dtype="int32", name="valid_frames")
    mean = keras.layers.GlobalAveragePooling1D()(keras.layers.Conv1D(8, 3, activation="relu")(features))
    model = keras.Model(
        {"features": features, "valid_frames": valid_frames}, keras.layers.Dense(7, activation="softmax")(mean)
    )
    files = [str(folder / "train" / "*")]
    constants = plain_constants(files, transform, spec)
    signatures.export(model, transform, spec, str(folder / "model"), plain=constants)
    return types.SimpleNamespace(
        spec=spec, model=model, transform=transform, files=files, model_dir=str(folder / "model")
    )


def as_augmented(record: bytes) -> bytes:
    example = tf.train.Example.FromString(record)
    example.features.feature[examples.AUGMENTATION].bytes_list.value[:] = [b"noise"]
    values = example.features.feature[examples.FEATURES].float_list.value
    values[:] = np.array(values) * 3 + 1
    return example.SerializeToString()


@pytest.fixture(scope="module")
def pushed(exported, framed, tmp_path_factory) -> dict[str, Path]:
    """Folders of versions of a model of each kind of features, with model card and manifest."""
    bases = {}
    for kind, model_dir in (("utterance", exported.serving_model_dir), ("frames", framed.model_dir)):
        folder = tmp_path_factory.mktemp(kind)
        card = folder / model_card.JSON_FILE
        card.write_text(card_of("ravdess").model_dump_json())
        push(model_dir, str(folder / "serving"), extra_assets=[str(card)])
        bases[kind] = folder / "serving"
    return bases


@pytest.fixture(scope="module", params=["utterance", "frames"])
def adaptation(request, pushed, place, tmp_path_factory) -> types.SimpleNamespace:
    """The version that the command wrote, the one before, and the command's addresses."""
    folder = tmp_path_factory.mktemp("adapted")
    private, public = write_keys(folder / "keys")
    base = pushed[request.param]
    assert ser("adapt", place, "--model-base-path", base, "--out", folder / "out", "--signing-key", private) == 0
    return types.SimpleNamespace(
        kind=request.param,
        before=find_model(str(base)).path,
        after=find_model(str(folder / "out"), public_key=public).path,
    )


def ser(*words) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def used(place: Path) -> list[Path]:
    return sorted(place.glob("[0-9]*.wav"))


def extracted(place: Path, spec) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the recordings as the AudioExampleGen extracts them; each has one window."""
    clips = [decode(path.read_bytes()) for path in used(place)]
    found = [frontend.features_of_waveform(clip.samples, clip.sample_rate_hz, spec) for clip in clips]
    features, valid_frames = zip(*found, strict=True)
    return np.stack(features), np.stack(valid_frames)


def constants_of(features, valid_frames, spec) -> Constants:
    statistics = Statistics(spec)
    statistics.add(np.asarray(features), np.asarray(valid_frames), np.full(len(features), "all"))
    return statistics.constants(["all"], "zscore")


def statistics_of(model_dir: str) -> Constants:
    return Constants.from_json(Path(model_dir, EXTRA_ASSETS, STATISTICS_FILE).read_text())


def test_a_trained_model_has_the_statistics_of_its_clips(exported, transformed):
    split = read_split(transformed.train_files, tft.TFTransformOutput(transformed.graph_dir), transformed.spec)
    stored = statistics_of(exported.serving_model_dir)
    np.testing.assert_allclose(stored.centre, split.features.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stored.width, split.features.std(axis=0), rtol=1e-5)


def test_augmented_copies_are_not_in_the_statistics(framed, tmp_path):
    split = read_split(framed.files, framed.transform, framed.spec)
    everything = constants_of(split.features, split.valid_frames, framed.spec)
    plain = split.features[1::2].astype(np.float64)  # the order is clip, then augmentation: noise, plain
    stored = statistics_of(framed.model_dir)
    np.testing.assert_allclose(stored.centre, plain.mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(stored.width, plain.std(axis=(0, 1)), rtol=1e-5)
    assert (everything.width.numpy() > 1.5 * stored.width).all()
    with tf.io.TFRecordWriter(str(tmp_path / "augmented"), "GZIP") as writer:
        for record in tf.data.TFRecordDataset(tf.io.gfile.glob(framed.files[0]), "GZIP").as_numpy_iterator():
            writer.write(as_augmented(record))
    assert plain_constants([str(tmp_path / "augmented")], framed.transform, framed.spec) is None


def test_features_of_the_place_get_mean_and_deviation_of_the_training(adaptation, place):
    spec = load_contract(adaptation.before).audio_spec
    features, valid_frames = extracted(place, spec)
    model = tf.saved_model.load(adaptation.after)
    normalised = model.normalise(features, valid_frames)
    set_to = Adaptation(model.adaptation_scale, model.adaptation_offset)
    training = statistics_of(adaptation.before)
    before, after = (
        constants_of(values, valid_frames, spec)
        for values in (normalised, adapt(normalised, valid_frames, set_to, spec))
    )
    varies = before.width.numpy() > 0
    assert np.abs(before.centre - training.centre).max() > 1
    np.testing.assert_allclose(after.centre, training.centre, atol=1e-4)
    np.testing.assert_allclose(after.width.numpy()[varies], training.width[varies], rtol=1e-4)


def test_answers_are_those_of_the_network_to_adapted_features(pushed, framed, place, tmp_path):
    assert ser("adapt", place, "--model-base-path", pushed["frames"], "--out", tmp_path) == 0
    features, valid_frames = extracted(place, framed.spec)
    raw = {examples.FEATURES: features, examples.VALID_FRAMES: valid_frames}
    normalised = framed.transform.transform_raw_features(raw)[examples.FEATURES]
    between = Adaptation.between(constants_of(normalised, valid_frames, framed.spec), statistics_of(framed.model_dir))
    inputs = {examples.VALID_FRAMES: valid_frames.astype(np.int32)}
    as_trained = framed.model.predict_on_batch(inputs | {examples.FEATURES: normalised})
    by_hand = framed.model.predict_on_batch(
        inputs | {examples.FEATURES: adapt(normalised, valid_frames, between, framed.spec)}
    )
    served = CApiModel(find_model(str(tmp_path)).path)
    speech = np.ones(len(features), np.float32)
    answers = served.run("features", raw | {examples.SPEECH: speech})
    np.testing.assert_allclose(answers["probabilities"], by_hand, atol=TOLERANCE)
    assert np.abs(by_hand - as_trained).max() > 0.05
    wavs = np.array([path.read_bytes() for path in used(place)], object)
    np.testing.assert_allclose(served.run("serving_default", {"audio": wavs})["probabilities"], by_hand, atol=TOLERANCE)


def test_every_signature_loads_as_in_tf_serving_and_is_adapted(adaptation, place):
    requests = [*warmup_requests(adaptation.after)]
    wavs = [path.read_bytes() for path in used(place)[:3]]
    requests += [request(name, audio=wavs) for name in ("serving_default", "timeline")]
    before, after = CApiModel(adaptation.before), CApiModel(adaptation.after)
    eager = tf.saved_model.load(adaptation.after).signatures
    assert {each.model_spec.signature_name for each in requests} == set(signatures.SIGNATURES) == set(eager)
    for each in requests:
        name = each.model_spec.signature_name
        inputs = {key: tf.make_ndarray(value) for key, value in each.inputs.items()}
        answer, unadapted = after.run(name, inputs), before.run(name, inputs)
        assert answer.keys() == unadapted.keys()
        assert not np.allclose(answer["probabilities"], unadapted["probabilities"], atol=1e-3)
        expected = eager[name](**{key: tf.constant(value) for key, value in inputs.items()})
        np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=TOLERANCE)


def test_contract_and_further_files_are_kept_and_the_card_describes_the_adaptation(adaptation):
    before, after = (Path(model_dir, EXTRA_ASSETS) for model_dir in (adaptation.before, adaptation.after))
    changed = {"model_card.json", "manifest.json", "source_model"}
    added = {"model_card.md", "manifest.sig"}
    files = {path.name for path in before.iterdir()}
    assert {path.name for path in after.iterdir()} == files | added
    kept = files - changed
    assert {name: (after / name).read_bytes() for name in kept} == {name: (before / name).read_bytes() for name in kept}
    card = model_card.ModelCard.model_validate_json((after / model_card.JSON_FILE).read_text())
    assert card.adapted.version == int(posixpath.basename(adaptation.before))
    assert (card.adapted.recordings, card.adapted.windows) == (CLIPS, CLIPS)
    assert CLIPS * 1 < card.adapted.speech_sec < CLIPS * 2.5
    text = (after / model_card.MARKDOWN_FILE).read_text()
    assert f"{CLIPS} recordings without labels" in text
    assert model_card.ASSUMPTION in text


def test_a_version_is_added_that_is_not_taken_for_the_trained_model(pushed, place, tmp_path, exported, capsys):
    base = tmp_path / "serving"
    shutil.copytree(pushed["utterance"], base)
    (first,) = base.iterdir()
    assert ser("adapt", place, "--model-base-path", base) == 0
    printed = capsys.readouterr().out
    second = find_model(str(base))
    assert second.version > int(first.name)
    assert f"{second.path}, version {first.name} adapted to {CLIPS} recordings" in printed
    assert model_card.ASSUMPTION in printed
    assert "broken.wav: AUDIO_UNREADABLE" in printed
    assert f"same.wav: has the sound of {place}/00.wav" in printed
    assert find_pushed(exported.serving_model_dir, str(base)) == str(first)
    source = Path(second.path, EXTRA_ASSETS, "source_model").read_text()
    assert source.startswith(exported.serving_model_dir)
    assert ser("adapt", place, "--model-base-path", base) == 0  # the adapted one: the adaptation is replaced
    third = find_model(str(base))
    assert Path(third.path, EXTRA_ASSETS, "source_model").read_text() == source
    scales = [tf.saved_model.load(model.path).adaptation_scale.numpy() for model in (second, third)]
    np.testing.assert_array_equal(*scales)


def test_too_little_speech_is_refused(pushed, place, tmp_path, capsys):
    (tmp_path / "few").mkdir()
    for path in used(place)[: adapted.LEAST_WINDOWS - 1]:
        shutil.copy(path, tmp_path / "few")
    noise = np.random.default_rng(0).normal(scale=0.1, size=48_000)
    soundfile.write(tmp_path / "few" / "noise.wav", noise, 16_000)
    base = tmp_path / "serving"
    shutil.copytree(pushed["utterance"], base)
    assert ser("adapt", tmp_path / "few", "--model-base-path", base) == ExitCode.REFUSED
    message = capsys.readouterr().err
    assert "29 of 30 recordings have speech: 29 windows" in message
    assert "at least 30 windows" in message
    assert "noise.wav: has no speech" in message
    assert len(list(base.iterdir())) == 1


@pytest.mark.parametrize("reason", ["statistics", "threshold", "key", "changed"])
def test_a_model_that_cannot_be_adapted_is_refused(pushed, place, tmp_path, capsys, reason):
    base, words = tmp_path / "serving", []
    shutil.copytree(pushed["utterance"], base)
    (version,) = base.iterdir()
    if reason == "statistics":
        (version / EXTRA_ASSETS / STATISTICS_FILE).unlink()
    if reason == "threshold":
        limits = DEFAULT_LIMITS.replace(min_confidence=0.4)
        (version / EXTRA_ASSETS / "audio_limits.json").write_text(limits.to_json())
    if reason == "key":
        words = ["--signing-key", version / manifest.MANIFEST_FILE]
    if reason == "changed":
        (version / EXTRA_ASSETS / "labels.json").write_text(json.dumps(["happy"]))
    else:
        manifest.write(str(version), signing_key=None)
    assert ser("adapt", place, "--model-base-path", base, *words) == ExitCode.REFUSED
    expected = {
        "statistics": f"has no {EXTRA_ASSETS}/{STATISTICS_FILE}",
        "threshold": "a confidence of 0.4",
        "key": "cannot be used as a private key",
        "changed": "labels.json",
    }
    assert expected[reason] in capsys.readouterr().err
    assert list(base.iterdir()) == [version]


def test_a_version_that_cannot_be_served_is_not_pushed(pushed, place, tmp_path, capsys, monkeypatch):
    save = adapted.save

    def save_broken(model, model_dir, version, out_dir, *rest):
        save(model, model_dir, version, out_dir, *rest)
        Path(out_dir, "variables", "variables.index").write_bytes(b"")

    monkeypatch.setattr(adapted, "save", save_broken)
    base = tmp_path / "serving"
    shutil.copytree(pushed["utterance"], base)
    assert ser("adapt", place, "--model-base-path", base) == ExitCode.FAILED
    assert "could not be served" in capsys.readouterr().err
    assert len(list(base.iterdir())) == 1
