"""Exceptions of the client.

::

    ServingError
     ├── AudioError             the recording cannot be used, with the code of the reason (also a ValueError)
     ├── AddressError           the address has none of the known forms (also a ValueError)
     ├── UnexpectedAnswer       the server answered, but not as a model of this project does
     └── RequestFailed          the server's own error, with its gRPC status
          ├── InvalidRequest       INVALID_ARGUMENT: the request does not fit the model; the message says why
          ├── ModelNotFound        NOT_FOUND: no such model or version
          ├── Overloaded           RESOURCE_EXHAUSTED: the request is too large, or a quota is used up
          ├── DeadlineExceeded     DEADLINE_EXCEEDED: no answer within the client's timeout
          └── ServerUnreachable    UNAVAILABLE: after the retries, nothing answers or the server's queue is full
"""

from typing import ClassVar

import grpc

from modules.common.errors import SerError


class ServingError(SerError):
    """Base of all errors of the client."""

    code = "serving.failed"


class AudioError(ServingError, ValueError):
    """The recording cannot be used: by the client, which cannot read it, or by the model.

    Attributes:
        code: The reason, such as ``AUDIO_TOO_SHORT``; ``docs/guides/serve.md`` lists all.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class AddressError(ServingError, ValueError):
    """The address has none of the known forms."""

    code = "serving.address"


class UnexpectedAnswer(ServingError):
    """The server answered, but not as a model of this project does."""

    code = "serving.unexpected_answer"


class RequestFailed(ServingError):
    """The server's own error.

    Attributes:
        status: The gRPC status code; for REST, the one that TF Serving maps onto the HTTP status.
        details: The server's message.
    """

    code = "serving.request_failed"
    by_status: ClassVar[dict[grpc.StatusCode, type["RequestFailed"]]] = {}

    def __init__(self, status: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{status.name}: {details}")
        self.status = status
        self.details = details

    @classmethod
    def of(cls, status: grpc.StatusCode, details: str) -> "RequestFailed":
        """Return an error of the subclass for ``status``.

        Args:
            status: The gRPC status code.
            details: The server's message.
        """
        return cls.by_status.get(status, RequestFailed)(status, details)


class InvalidRequest(RequestFailed):
    """The request does not fit the model or the server's limits."""

    code = "serving.invalid_request"


class ModelNotFound(RequestFailed):
    """No such model or version. An unknown label or signature is another error of the request."""

    code = "serving.model_not_found"


class Overloaded(RequestFailed):
    """The request is larger than the server accepts, or a quota is used up."""

    code = "serving.overloaded"


class DeadlineExceeded(RequestFailed):
    """No answer within the client's timeout."""

    code = "serving.deadline_exceeded"


class ServerUnreachable(RequestFailed):
    """Nothing answers at this address, or the server's queue is full."""

    code = "serving.unreachable"


RequestFailed.by_status = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: ServerUnreachable,
}
