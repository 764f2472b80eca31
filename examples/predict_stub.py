"""Send a WAV file to a served model with TF Serving's own stub, without this project's client.

python examples/predict_stub.py recording.wav [HOST:PORT]
"""

import sys
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def main(recording: str, address: str = "localhost:8500") -> None:
    """Print the emotion of one recording."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ser"
    request.inputs["audio"].CopyFrom(tf.make_tensor_proto([Path(recording).read_bytes()]))
    with grpc.insecure_channel(address) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=10)
    print(f"{recording}: {tf.make_ndarray(answer.outputs['emotion'])[0].decode()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
