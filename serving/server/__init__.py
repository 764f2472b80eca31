"""Embedded server with TF Serving's protocols, for development and tests.

For clients it is equal to TF Serving: the same gRPC services, REST paths, status codes, metric names and configuration
files. Production runs TF Serving itself, from the same files; see ``serving/container``.
"""
