"""Exceptions of the client.

::

    ServingError
     ├── AudioError             the recording cannot be used, with the code of the reason (also a ValueError)
     ├── AddressError           the address has none of the known forms (also a ValueError)
     ├── UnexpectedAnswer       the server answered, but not as a model of this project does
     └── RequestFailed          the server's own error, with its gRPC status code
          ├── InvalidRequest       INVALID_ARGUMENT: the request does not fit the model; the message says why
          ├── ModelNotFound        NOT_FOUND: no such model, version, label or signature
          ├── Overloaded           RESOURCE_EXHAUSTED: the request is too large, or a quota is used up
          ├── DeadlineExceeded     DEADLINE_EXCEEDED: no answer within the client's timeout
          └── ServerUnreachable    UNAVAILABLE: after the retries, nothing answers or the server's queue is full
"""

from typing import ClassVar

import grpc


class ServingError(Exception):
    """Base of all errors of the client."""


class AudioError(ServingError, ValueError):
    """The recording cannot be used: by the client, which cannot read it, or by the model.

    Attributes:
        code: The reason, such as ``AUDIO_SILENT``; ``docs/guides/serve.md`` lists all.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class AddressError(ServingError, ValueError):
    """The address has none of the known forms."""


class UnexpectedAnswer(ServingError):
    """The server answered, but not as a model of this project does."""


class RequestFailed(ServingError):
    """The server's own error.

    Attributes:
        code: The gRPC status code; for REST, the code that TF Serving maps onto the HTTP status.
        details: The server's message.
    """

    by_code: ClassVar[dict[grpc.StatusCode, type["RequestFailed"]]] = {}

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details

    @classmethod
    def of(cls, code: grpc.StatusCode, details: str) -> "RequestFailed":
        """Return an error of the subclass for ``code``.

        Args:
            code: The gRPC status code.
            details: The server's message.
        """
        return cls.by_code.get(code, RequestFailed)(code, details)


class InvalidRequest(RequestFailed):
    """The request does not fit the model or the server's limits."""


class ModelNotFound(RequestFailed):
    """No such model, version, label or signature."""


class Overloaded(RequestFailed):
    """The request is larger than the server accepts, or a quota is used up."""


class DeadlineExceeded(RequestFailed):
    """No answer within the client's timeout."""


class ServerUnreachable(RequestFailed):
    """Nothing answers at this address, or the server's queue is full."""


RequestFailed.by_code = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: ServerUnreachable,
}
