"""``ser export``: files for edge runtimes answer as the served model, in the runtimes' own packages."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from ai_edge_litert.interpreter import Interpreter

from benchmarks.edge import windows_of
from cli.exits import ExitCode
from cli.main import main
from modules.audio.decoding import AudioLimits
from modules.audio.spec import AudioSpec
from modules.data.clips import Clip
from modules.data.labels import EMOTIONS
from modules.demo_corpus.corpus import write_corpus
from modules.export import manifest
from modules.export.contract import NOT_SURE, load_contract
from modules.export.edge import convert
from modules.export.edge.served import ServedModel
from pipeline.pushed_acceptance import Recordings
from serving.batch.plan import PushedModel, find_model
from tests.exports import export_random_model
from tests.paths import ROOT

FAMILIES = ("attentive_crnn", "original_cnn")
VERSION = 7
MIN_CONFIDENCE = 0.25
GUIDE = ROOT / "docs" / "guides" / "export-to-edge.md"


def push(model: Path, base: Path) -> PushedModel:
    """Copy a model to the folder of a version, with a manifest."""
    shutil.copytree(model, base / str(VERSION))
    manifest.write(str(base / str(VERSION)), signing_key=None)
    return find_model(str(base))


@pytest.fixture(scope="module")
def pushed(tmp_path_factory) -> dict[str, PushedModel]:
    """Calibrated models with random weights, by family."""
    models = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        limits = AudioLimits(min_confidence=MIN_CONFIDENCE)
        exported = export_random_model(family, folder, limits, temperature=1.7)
        models[family] = push(exported, folder / "serving")
    return models


@pytest.fixture(scope="module")
def files(pushed, tmp_path_factory) -> dict[tuple[str, ...], Path]:
    """Files that the command wrote, by family, format and quantization."""
    folder, written = tmp_path_factory.mktemp("files"), {}
    wanted = [(family, form, "none") for family in FAMILIES for form in convert.FORMATS]
    wanted += [("attentive_crnn", form, "int8") for form in convert.FORMATS]
    for family, form, quantization in wanted:
        out = folder / "new" / f"{family}-{quantization}.{form}"
        base = Path(pushed[family].path).parent
        words = ["--format", form, "--model-base-path", base, "--out", out, "--quantize", quantization]
        assert ser("export", *words) == ExitCode.DONE
        written[family, form, quantization] = out
    assert sorted((folder / "new").iterdir()) == sorted(written.values())
    return written


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Recordings:
    """Recordings of the demo corpus, whole, and the first 1.5 s of one."""
    folder = tmp_path_factory.mktemp("demo")
    write_corpus(folder / "corpus", clips=24, seed=0)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.wav"))
    clips = [Clip(path=str(path), corpus="demo", emotion="sad", speaker=str(path.parent)) for path in paths]
    return Recordings(str(folder), tuple(clips), "")


@pytest.fixture(scope="module")
def windows(corpus, pushed) -> dict[str, list]:
    """The window of each recording, by family, and a part of the first one."""
    by_family = {family: windows_of(corpus, model.path) for family, model in pushed.items()}
    for found in by_family.values():
        waveform = found[0][0].copy()
        waveform[:, 30_000:] = 0.5  # behind the sound, where nothing is read
        found.append((waveform, np.array([30_000], np.int32)))
    return by_family


def ser(*words) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def refused(capsys, *words) -> str:
    """Return the message of a command that refuses its input."""
    assert ser(*words) == ExitCode.REFUSED
    return capsys.readouterr().err


@pytest.mark.parametrize("form", convert.FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_are_those_of_the_served_model(family, form, files, pushed, windows):
    file, served = convert.load(files[family, form, "none"], form), ServedModel(pushed[family].path)
    assert len(windows[family]) == 25
    assert convert.largest_difference(file, served, windows[family]) <= 1e-4
    answers = np.concatenate([file.predict(*window) for window in windows[family]])
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert answers.std(axis=0).max() > 0.01  # models that answer the same to everything would agree, too


@pytest.mark.parametrize("form", convert.FORMATS)
def test_weights_of_8_bits_make_small_files_with_close_answers(form, files, pushed, windows):
    path, whole = files["attentive_crnn", form, "int8"], files["attentive_crnn", form, "none"]
    assert path.stat().st_size < whole.stat().st_size / 2
    served, file = ServedModel(pushed["attentive_crnn"].path), convert.load(path, form)
    differences = [
        np.abs(file.predict(*window) - served.predict(*window)).max() for window in windows["attentive_crnn"]
    ]
    assert 0 < np.mean(differences) < 0.05
    assert file.facts.quantization == "int8"


def test_an_application_finds_the_facts_in_a_tflite_file(files, pushed):
    path = files["attentive_crnn", "tflite", "none"]
    facts, model = json.loads(zipfile.ZipFile(path).read("contract.json")), pushed["attentive_crnn"]
    assert facts == {
        "labels": list(EMOTIONS),
        "sample_rate_hz": 22_050,
        "window_samples": 77_175,
        "min_confidence": MIN_CONFIDENCE,
        "model_version": VERSION,
        "model_fingerprint": model.fingerprint,
        "audio_spec": AudioSpec().fingerprint,
        "quantization": "none",
    }
    signature = Interpreter(model_path=str(path)).get_signature_list()["serving_default"]
    assert signature == {"inputs": ["valid_samples", "waveform"], "outputs": ["probabilities"]}


def test_an_application_finds_the_facts_in_an_onnx_file(files, pushed):
    path = files["attentive_crnn", "onnx", "none"]
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    texts = session.get_modelmeta().custom_metadata_map
    facts = {name: json.loads(text) for name, text in texts.items()}
    assert (facts["labels"], facts["sample_rate_hz"], facts["window_samples"]) == (list(EMOTIONS), 22_050, 77_175)
    assert (facts["model_version"], facts["min_confidence"]) == (VERSION, MIN_CONFIDENCE)
    assert facts["model_fingerprint"] == pushed["attentive_crnn"].fingerprint
    shapes = {each.name: (each.type, each.shape) for each in [*session.get_inputs(), *session.get_outputs()]}
    assert shapes == {
        "waveform": ("tensor(float)", [1, 77_175]),
        "valid_samples": ("tensor(int32)", [1]),
        "probabilities": ("tensor(float)", [1, len(EMOTIONS)]),
    }


@pytest.mark.parametrize("form", convert.FORMATS)
def test_unusable_samples_have_probabilities_of_zero(form, files, pushed):
    file, samples = convert.load(files["attentive_crnn", form, "none"], form), 77_175
    noise = np.random.default_rng(0).normal(scale=0.1, size=(1, samples)).astype(np.float32)
    broken = noise.copy()
    broken[0, 5] = np.nan
    for waveform, valid_samples in ((broken, samples), (noise, 0), (noise, samples + 1)):
        assert not file.predict(waveform, np.array([valid_samples], np.int32)).any()
    assert file.predict(noise, np.array([samples], np.int32)).sum() == pytest.approx(1, abs=1e-5)


def test_models_with_an_encoder_are_refused(tmp_path, capsys):
    push(export_random_model("encoder_linear", tmp_path), tmp_path / "serving")
    out = tmp_path / "model.tflite"
    message = refused(capsys, "export", "--format", "tflite", "--model-base-path", tmp_path / "serving", "--out", out)
    assert "attentive_crnn, original_cnn" in message
    assert "--set training.family=attentive_crnn" in message
    assert not out.exists()


def test_a_changed_model_is_refused_and_the_former_file_stays(pushed, tmp_path, capsys):
    base, out = tmp_path / "serving", tmp_path / "model.onnx"
    shutil.copytree(Path(pushed["attentive_crnn"].path).parent, base)
    weights = next((base / str(VERSION) / "variables").glob("*.data-*"))
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    out.write_bytes(b"former")
    message = refused(capsys, "export", "--format", "onnx", "--model-base-path", base, "--out", out)
    assert "changed: variables/" in message
    assert out.read_bytes() == b"former"


def test_a_version_that_does_not_exist_is_refused(pushed, tmp_path, capsys):
    base = Path(pushed["attentive_crnn"].path).parent
    words = ["--format", "tflite", "--model-base-path", base, "--version", 9, "--out", tmp_path / "model.tflite"]
    assert f"it has [{VERSION}]" in refused(capsys, "export", *words)


def test_a_folder_in_the_place_of_the_file_is_refused(pushed, tmp_path, capsys):
    base = Path(pushed["attentive_crnn"].path).parent
    words = ["--format", "tflite", "--model-base-path", base, "--out", tmp_path]
    assert "is not a file" in refused(capsys, "export", *words)


def test_the_example_of_the_guide_answers_with_both_files(files, tmp_path, monkeypatch, capsys):
    example, with_onnx = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    for form in convert.FORMATS:
        shutil.copy(files["attentive_crnn", form, "none"], tmp_path / f"emotion.{form}")
    noise = np.random.default_rng(0).normal(scale=0.1, size=(8 * 48_000, 2))
    soundfile.write(tmp_path / "recording.wav", noise, 48_000)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example, names)
    first = names["probabilities"]
    assert len(names["answers"]) == 3
    body = example[example.index("channels, rate_hz") :]
    exec(with_onnx + body, names)
    np.testing.assert_allclose(names["probabilities"], first, atol=1e-4)
    printed = capsys.readouterr().out.split()
    assert printed[0] == printed[1]
    assert printed[0] in (*EMOTIONS, NOT_SURE)


def test_facts_state_the_limits_of_the_contract(pushed):
    contract = load_contract(pushed["original_cnn"].path)
    facts = convert.Facts.of(contract, version=1, fingerprint="f", quantization="none")
    assert convert.Facts.from_texts(facts.texts() | {"other": "text"}) == facts
