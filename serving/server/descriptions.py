"""Descriptions of TF Serving's services for gRPC reflection.

``prediction_service_pb2`` and ``model_service_pb2`` would contain them, but those of tensorflow-serving-api 2.19 cannot
be imported with protobuf 6: they set an attribute of the descriptor that is read-only by now. The stubs and servicers
of ``*_pb2_grpc`` do not need them.
"""

import functools

from google.protobuf import descriptor_pb2, descriptor_pool, message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

_PACKAGE = "tensorflow.serving"
_Methods = dict[str, tuple[type[message.Message], type[message.Message]]]

_PREDICTION_METHODS: _Methods = {
    "Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
    "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
}
_MODEL_METHODS: _Methods = {
    "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse),
    "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, model_management_pb2.ReloadConfigResponse),
}

SERVICES = (f"{_PACKAGE}.PredictionService", f"{_PACKAGE}.ModelService")


@functools.cache
def describe_services() -> None:
    """Register both services with the descriptor pool of reflection, once per process."""
    _describe("prediction_service", "PredictionService", _PREDICTION_METHODS)
    _describe("model_service", "ModelService", _MODEL_METHODS)


def _describe(file_name: str, service_name: str, methods: _Methods) -> None:
    imported = {kind.DESCRIPTOR.file.name for pair in methods.values() for kind in pair}
    file = descriptor_pb2.FileDescriptorProto(
        name=f"tensorflow_serving/apis/{file_name}.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=sorted(imported),
    )
    service = file.service.add(name=service_name)
    for name, (request, response) in methods.items():
        types = {"input_type": request.DESCRIPTOR.full_name, "output_type": response.DESCRIPTOR.full_name}
        service.method.add(name=name, **types)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
