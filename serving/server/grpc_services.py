"""TF Serving's gRPC services."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf import message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.errors import StatusError, invalid
from serving.server.handler import Handler
from serving.server.tensors import arrays_of_protos, write_array

_Response = TypeVar("_Response", bound=message.Message)

METADATA_FIELD = "signature_def"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the methods for ``tf.Example`` APIs return UNIMPLEMENTED."""

    def __init__(self, handler: Handler, *, max_items: int) -> None:
        self._handler = handler
        self._max_items = max_items

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Return the outputs of one request."""
        return await _answer(context, lambda: self._predict(request))

    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures of a version."""
        return await _answer(context, lambda: self._metadata(request))

    async def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        spec = request.model_spec
        with self._handler.metrics.request(self._handler.known_name(spec.name), "GRPC"):
            servable = self._handler.servable(spec)
            inputs = arrays_of_protos(request.inputs, max_items=self._max_items)
            answer = await self._handler.predict(servable, spec.signature_name, inputs, request.output_filter)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = servable.version
        response.model_spec.signature_name = answer.signature
        for name, array in answer.outputs.items():
            write_array(array, response.outputs[name])
        return response

    async def _metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if list(request.metadata_field) != [METADATA_FIELD]:
            raise invalid(f"metadata_field is {list(request.metadata_field)}; it must be ['{METADATA_FIELD}']")
        servable = self._handler.servable(request.model_spec)
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = servable.version
        response.metadata[METADATA_FIELD].Pack(definitions)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, handler: Handler) -> None:
        self._manager = handler.manager

    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the states of a model's versions."""
        return await _answer(context, lambda: self._status(request))

    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.aio.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Apply a configuration; return a failure in the response instead of failing the call, as TF Serving does."""
        response = model_management_pb2.ReloadConfigResponse()
        try:
            await self._manager.apply(request.config)
        except StatusError as error:
            response.status.error_code = error.status.value[0]
            response.status.error_message = error.message
        return response

    async def _status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        statuses = self._manager.model(request.model_spec.name).status(request.model_spec)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)


async def _answer(context: grpc.aio.ServicerContext, handle: Callable[[], Awaitable[_Response]]) -> _Response:
    try:
        return await handle()
    except StatusError as error:
        await context.abort(error.status, error.message)
        raise  # abort raises; this is for readers and type checkers
