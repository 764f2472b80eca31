"""Failures of requests, as a status for both gRPC and REST."""

import grpc


class Fault(Exception):
    """Failure of a request.

    Attributes:
        code: The gRPC status code of the response.
        message: Text of the response.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> Fault:
    """Return the failure of a request that can never succeed as it is.

    Args:
        message: Text of the response.
    """
    return Fault(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> Fault:
    """Return the failure of a request for an unknown model, version, label or signature.

    Args:
        message: Text of the response.
    """
    return Fault(grpc.StatusCode.NOT_FOUND, message)


def exhausted(message: str) -> Fault:
    """Return the failure of a request that is too large, or that may succeed later.

    Args:
        message: Text of the response.
    """
    return Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
