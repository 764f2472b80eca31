"""Regional addresses and errors of Vertex AI, for rollouts and for runs of the pipeline."""

import contextlib
from collections.abc import Callable, Iterator

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions


def location(project: str, region: str) -> str:
    """Return the resource name of a region of a project.

    Args:
        project: Google Cloud project.
        region: Region.
    """
    return f"projects/{project}/locations/{region}"


def client_options(region: str) -> dict[str, str]:
    """Return the options of a client for a region.

    Args:
        region: Region.
    """
    return {"api_endpoint": f"{region}-aiplatform.googleapis.com"}


@contextlib.contextmanager
def cloud_errors(
    project: str,
    region: str,
    *,
    service: str = "Vertex AI",
    unauthenticated: Callable[[str], Exception],
    failed: Callable[[str], Exception],
) -> Iterator[None]:
    """Turn the errors of Google's clients into errors with a message that names the next step.

    Args:
        project: Google Cloud project.
        region: Region.
        service: Name of the service.
        unauthenticated: Class of the error for missing credentials.
        failed: Class of the error for all other failures.
    """
    try:
        yield
    except auth_exceptions.GoogleAuthError as error:
        raise unauthenticated(f"no credentials: {error}\nRun `gcloud auth application-default login` first") from error
    except exceptions.GoogleAPIError as error:
        raise failed(
            f"{service} ({region}, project {project}) failed: {error_text(error)}\n"
            "docs/guides/production/operate.md lists such failures and what to do"
        ) from error


def error_text(error: Exception) -> str:
    """Return code and message of an error of Google's clients; for an exhausted retry, those of its cause.

    Args:
        error: The error.
    """
    if isinstance(error, exceptions.RetryError) and isinstance(error.cause, Exception):
        error = error.cause
    if isinstance(error, exceptions.GoogleAPICallError):
        code = error.grpc_status_code
        return f"{code.name if code else error.code}: {error.message}"
    return f"{type(error).__name__}: {error}"
