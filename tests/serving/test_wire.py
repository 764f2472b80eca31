"""The client's own messages are TF Serving's on the wire."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.client.parts import Batch, Item
from serving.client.predictions import ModelChoice
from serving.wire import predict_pb2 as wire

ROOT = Path(__file__).parents[2]


def test_generated_files_belong_to_the_proto_files(tmp_path):
    protos = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "serving/wire").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, *protos], cwd=ROOT, check=True)
    generated = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2.py*"))
    assert len(generated) == 2 * len(protos)
    for path in generated:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text()


@pytest.mark.parametrize("choice", [{"version": 7}, {"label": "canary"}, {}])
def test_tf_serving_reads_our_requests(choice):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    ours = ModelChoice(name="ser", **choice).request("serving_default", [b"RIFF", b"\x00\xff"])
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert theirs.model_spec.name == "ser"
    assert theirs.model_spec.signature_name == "serving_default"
    assert theirs.model_spec.version.value == choice.get("version", 0)
    assert theirs.model_spec.version_label == choice.get("label", "")
    assert tf.make_ndarray(theirs.inputs["audio"]).tolist() == [b"RIFF", b"\x00\xff"]


@pytest.mark.parametrize("as_content", [True, False])
def test_we_read_answers_in_both_encodings_of_a_tensor(as_content):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    values = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)
    theirs = predict_pb2.PredictResponse()
    theirs.model_spec.version.value = 4
    theirs.outputs["labels"].CopyFrom(tf.make_tensor_proto([[b"sad", b"happy"]] * 2))
    theirs.outputs["emotion"].CopyFrom(tf.make_tensor_proto([b"sad", b"sad"]))
    theirs.outputs["error"].CopyFrom(tf.make_tensor_proto([b"", b""]))
    probabilities = theirs.outputs["probabilities"]
    probabilities.CopyFrom(tf.make_tensor_proto(values))
    if not as_content:
        probabilities.ClearField("tensor_content")
        probabilities.float_val.extend([0.75, 0.25, 0.5])  # the last value stands for those that follow
    batch = Batch()
    for name in ("first", "second"):
        batch.add(Item(name, b"RIFF"), b"RIFF")
    response = wire.PredictResponse.FromString(theirs.SerializeToString())
    answers = [answer for _, answer in batch.answers(response)]
    assert [answer.probabilities for answer in answers] == [
        {"sad": 0.75, "happy": 0.25},
        {"sad": 0.5, "happy": 0.5},
    ]
    assert answers[0].model_version == 4
