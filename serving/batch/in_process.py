"""A model in this process, with the answers of a server."""

import numpy as np

from modules.export.contract import load_contract
from serving.batch.plan import PushedModel
from serving.client.predictions import AUDIO_INPUT
from serving.server.servable import Servable
from serving.server.tensors import write_array
from serving.wire import predict_pb2 as wire


class InProcess:
    """:class:`serving.client.transport.Transport` to a model in this process. Threads may share it.

    Attributes:
        labels: Names of the probabilities, in order.
    """

    max_request_bytes = 32 * 1024 * 1024

    def __init__(self, model: PushedModel) -> None:
        """Load the model.

        Args:
            model: The version to load.
        """
        self._servable = Servable("ser", model.version, model.path)
        self.labels = load_contract(model.path).labels

    def predict(self, request: wire.PredictRequest, *, timeout_sec: float) -> wire.PredictResponse:
        """Return the model's response. There is no deadline: nobody else uses the model.

        Args:
            request: The request.
            timeout_sec: Not used.
        """
        wavs = np.array(request.inputs[AUDIO_INPUT].string_val, dtype=object)
        outputs = self._servable.run(request.model_spec.signature_name, {AUDIO_INPUT: wavs})
        response = wire.PredictResponse()
        response.model_spec.version.value = self._servable.version
        for name, array in outputs.items():
            write_array(array, response.outputs[name])
        return response

    def close(self) -> None:
        """Do nothing: the model stays in memory as long as the object."""
