"""Failures of requests, as a status for both gRPC and REST."""

import grpc

from modules.common.errors import SerError


class StatusError(SerError):
    """Failure of a request.

    Attributes:
        status: The gRPC status code of the response.
        message: Text of the response.
    """

    code = "serving.status"

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def invalid(message: str) -> StatusError:
    """Return the failure of a request that is invalid, so that a retry would fail again.

    Args:
        message: Text of the response.
    """
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    """Return the failure of a request for an unknown model, version, label or signature.

    Args:
        message: Text of the response.
    """
    return StatusError(grpc.StatusCode.NOT_FOUND, message)


def exhausted(message: str) -> StatusError:
    """Return the failure of a request that is too large, or that may succeed later.

    Args:
        message: Text of the response.
    """
    return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
