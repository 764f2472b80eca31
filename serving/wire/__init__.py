"""The messages that a client needs of TF Serving's gRPC interface, without TensorFlow.

``tensorflow_serving.apis`` imports the whole of TensorFlow, which costs seconds. The ``.proto`` files here
declare the same messages with the same field numbers under a package of their own, so the bytes on the wire
are the same, and a process that has loaded TensorFlow as well holds no two definitions of one name.

The ``*_pb2.py`` files are generated, from the repository root, by::

    python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. serving/wire/*.proto
"""
