"""What the server refuses, as a status that both gRPC and REST can tell."""

import grpc


class Fault(Exception):
    """A request that is answered with ``code`` and ``message`` instead of a result."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> Fault:
    """The request can never succeed as it is."""
    return Fault(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> Fault:
    """No such model, version, label or signature."""
    return Fault(grpc.StatusCode.NOT_FOUND, message)


def exhausted(message: str) -> Fault:
    """Too much at once; the same request may succeed later, or in smaller parts."""
    return Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
