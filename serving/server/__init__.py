"""An embedded server that speaks TF Serving's protocols, for development and tests.

What a client sees is TF Serving: the same gRPC services, REST paths, status codes, metric names and configuration
files. Production runs TF Serving itself, from the same files; see ``serving/container``.
"""
