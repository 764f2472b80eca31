"""Exported models in the loader that TF Serving uses, a graph and a session: by TensorFlow's C API and by Python."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from components.serving_validator.requests import request, warmup_requests
from modules.export import manifest, signatures
from modules.models import FAMILIES
from serving.server.servable import Servable
from tests.exports import export_with_keras_variables
from tests.loaders.c_api import CApiError, CApiModel
from tests.paths import ROOT

TOLERANCE = 1e-5
UV = ROOT / ".setup" / "tools" / "bin" / "uv"
LOADERS = ROOT / "tests" / "loaders"


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model_dir(request, export_family, tmp_path_factory):
    """An exported model with a manifest, as the Pusher leaves it."""
    folder = str(export_family(request.param, tmp_path_factory.mktemp(request.param)))
    manifest.write(folder, signing_key=None)
    return folder


@pytest.fixture(scope="module")
def serving_python(tmp_path_factory):
    """Python with the TensorFlow of TF Serving's release and nothing of this project."""
    python = tmp_path_factory.mktemp("tf-serving") / "venv" / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, python.parents[1]], check=True)
    requirements = ["--require-hashes", "--requirement", LOADERS / "tf_serving_runtime.txt"]
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
    return python


def requests_for(model_dir, *wavs):
    """Return pairs of signature and inputs: the model's own warm-up requests and batches of recordings."""
    requests = list(warmup_requests(model_dir))
    requests += [request(signature, audio=wavs) for signature in ("serving_default", "timeline") if wavs]
    return [
        (each.model_spec.signature_name, {name: tf.make_ndarray(value) for name, value in each.inputs.items()})
        for each in requests
    ]


def eager_answers(model_dir, items):
    loaded = tf.saved_model.load(model_dir).signatures
    for signature, inputs in items:
        outputs = loaded[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        yield {name: output.numpy() for name, output in outputs.items()}


def assert_same(answers, expected):
    assert answers.keys() == expected.keys()
    for name, values in expected.items():
        assert answers[name].shape == values.shape
        if values.dtype == object:
            np.testing.assert_array_equal(answers[name], values)
        else:
            np.testing.assert_allclose(answers[name], values, atol=TOLERANCE)


def python_loader(model_dir):
    return Servable("ser", 1, model_dir)


@pytest.mark.parametrize("load", [CApiModel, python_loader], ids=["C API", "Python"])
def test_every_signature_answers_as_the_eager_loader_does(model_dir, load, wav_bytes, speechlike):
    wavs = [wav_bytes, tf.audio.encode_wav(speechlike(5.2, seed=1)[:, np.newaxis], 48_000).numpy()]
    items = requests_for(model_dir, *wavs)
    assert {signature for signature, _ in items} == set(signatures.SIGNATURES)
    model = load(model_dir)
    for (signature, inputs), expected in zip(items, eager_answers(model_dir, items), strict=True):
        assert_same(model.run(signature, inputs), expected)


@pytest.mark.slow
def test_serving_and_training_releases_agree(model_dir, serving_python, wav_bytes, tmp_path):
    items = requests_for(model_dir, wav_bytes)
    requests, answers = tmp_path / "requests", tmp_path / "answers"
    requests.write_bytes(pickle.dumps(items))
    command = [serving_python, LOADERS / "c_api.py", model_dir, requests, answers]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    (release,) = re.findall(r"tensorflow/serving:([\d.]+)", (ROOT / "serving/container/Dockerfile").read_text())
    assert finished.stdout.strip() == release
    for answer, expected in zip(pickle.loads(answers.read_bytes()), eager_answers(model_dir, items), strict=True):
        assert_same(answer, expected)


def test_keras_variables_load_in_the_eager_loader_only(tmp_path):
    model_dir = str(export_with_keras_variables(tmp_path))
    items = requests_for(model_dir)
    assert len(list(eager_answers(model_dir, items))) == len(items)
    model = CApiModel(model_dir)
    with pytest.raises(CApiError, match="Could not find variable"):
        model.run(*items[0])
