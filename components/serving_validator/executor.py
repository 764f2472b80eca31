"""Executor of the ServingValidator."""

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.artifacts import VALIDATED_FILE, Artifacts, Properties
from components.serving_validator.requests import TOLERANCE, largest_difference, validation_requests
from modules.data.predictions import read_examples
from modules.export import manifest
from modules.reporting.summary import Check
from serving.server.command import CannotServe
from serving.server.subprocess_server import served

MODEL_KEY = "model"
EXAMPLES_KEY = "examples"
BLESSING_KEY = "blessing"
SPLIT_KEY = "split"
TIMEOUT_SEC_KEY = "timeout_sec"

TIMEOUT_SEC = 180.0

CHECK_FILE = "serving_check.json"

NAME = "Answers over gRPC"
CODE = "serving.grpc_answers"

# The names of TFX's InfraValidator: its Pusher reads the property; the file is for people.
_BLESSED_PROPERTY = "blessed"
_BLESSED_FILE, _NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"

_MODEL_NAME = "ser"

Answer = dict[str, np.ndarray]


class Executor(base_executor.BaseExecutor):
    """Executor that serves the model from a child process and compares its answers."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Bless the model if the server answers as the SavedModel does; record its files, which the Pusher requires."""
        model = artifact_utils.get_single_instance(input_dict[MODEL_KEY])
        model_dir = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
        split_name = exec_properties[SPLIT_KEY]
        split = read_examples(artifact_utils.get_split_uri(input_dict[EXAMPLES_KEY], split_name))
        examples_uri = artifact_utils.get_single_uri(input_dict[EXAMPLES_KEY])
        requests = validation_requests(model_dir, examples_uri, split_name, split)
        files = manifest.describe(model_dir)
        check = validate(model_dir, requests, timeout_sec=exec_properties[TIMEOUT_SEC_KEY])
        manifest.require_same(model_dir, files)
        _record(check, files, artifact_utils.get_single_instance(output_dict[BLESSING_KEY]))


def validate(model_dir: str, requests: list[Any], *, timeout_sec: float = TIMEOUT_SEC) -> Check:
    """Compare answers of the served model with those of the evaluated one; the value is the largest difference.

    The server loads models as TF Serving does, so a model that TF Serving cannot run does not pass.

    Args:
        model_dir: Folder of the SavedModel.
        requests: PredictRequests that name a signature.
        timeout_sec: Limit for loading the model, and again for all answers, in seconds.
    """
    with tempfile.TemporaryDirectory() as base_path:
        io_utils.copy_dir(model_dir, os.path.join(base_path, "1"))
        try:
            with (
                served(base_path, timeout_sec=timeout_sec) as address,
                # gRPC would send even this machine's own addresses through a proxy that the environment names.
                grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel,
            ):
                predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
                answers = [_predict(predict, request, timeout_sec) for request in requests]
            evaluated = _evaluated_answers(os.path.join(base_path, "1"), requests)
            gaps = [largest_difference(own, answer) for own, answer in zip(evaluated, answers, strict=True)]
        except CannotServe as error:
            return _failed(f"The model could not be served: {error}")
        except grpc.RpcError as error:
            return _failed(f"The served model did not answer: {error.code().name}: {error.details()}")
    largest = max(gaps)
    passed = largest <= TOLERANCE
    text = f"Served over gRPC, the model answered {len(requests)} requests as the SavedModel does."
    if not passed:
        wrong = sum(gap > TOLERANCE for gap in gaps)
        text = (
            f"Served over gRPC, the model answered {wrong} of {len(requests)} requests differently from the SavedModel."
        )
    return Check(code=CODE, name=NAME, passed=passed, text=text, value=largest, bound=TOLERANCE)


def _evaluated_answers(model_dir: str, requests: list[Any]) -> Iterator[Answer]:
    """Answer by the loader that evaluates: served and evaluated answers have to be the same."""
    signatures = tf.saved_model.load(model_dir).signatures
    for request in requests:
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**inputs)
        yield {name: tensor.numpy() for name, tensor in outputs.items()}


def _predict(predict: Callable[..., Any], request: Any, timeout_sec: float) -> Answer:
    request.model_spec.name = _MODEL_NAME
    answered = predict(request, timeout=timeout_sec)
    return {name: tf.make_ndarray(tensor) for name, tensor in answered.outputs.items()}


def _failed(text: str) -> Check:
    return Check(code=CODE, name=NAME, passed=False, text=text, bound=TOLERANCE)


def _record(check: Check, files: manifest.Manifest, blessing: types.Artifact) -> None:
    name = _BLESSED_FILE if check.passed else _NOT_BLESSED_FILE
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    io_utils.write_string_file(os.path.join(blessing.uri, CHECK_FILE), check.model_dump_json(indent=2))
    io_utils.write_string_file(os.path.join(blessing.uri, VALIDATED_FILE), files.json_bytes.decode())
    blessing.set_int_custom_property(_BLESSED_PROPERTY, int(check.passed))
