"""Requests that a Vertex AI endpoint logged to a BigQuery table.

The table has the columns endpoint, deployed_model_id, logging_time, request_id, request_payload and response_payload.
Payloads are lists of JSON texts: the body of a RawPredict, or each instance of a Predict. The audio of requests to
``serving_default`` is read. BigQuery bills the columns that the query names, request_payload and logging_time.
"""

import base64
import collections
import contextlib
import datetime
import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from components.drift_monitor.errors import UnreadableSample
from modules.common.bigquery_table import FORM, parse_table

MAX_BILLED_BYTES = 50 * 10**9
"""Bytes that one query may read at most; BigQuery refuses a query that would read more."""

_SIGNATURES = ("", "serving_default")
_RETRY_SEC = 60.0
_QUERY_SEC = 600.0

_NO_RECORDING = "not recordings of the signature serving_default"
_REPEATED = "repeated recordings"
UNUSABLE = "unusable recordings"


class Newest(NamedTuple):
    """Part of a table to read.

    Attributes:
        days: Age of the oldest row in days.
        rows: Number of rows at most; the newest are read.
    """

    days: float = 7
    rows: int = 1000


DEFAULT_PART = Newest()


class LoggedRecordings:
    """WAV files of logged requests, newest first, each content once.

    The Pusher's smoke test repeats its requests, and clients repeat failed ones; so a repeated recording counts once.

    Attributes:
        skipped: Number of payloads without a recording to compare, by reason. Readers of the recordings may add some.
    """

    def __init__(self, address: str, newest: Newest) -> None:
        """Check the address.

        Args:
            address: ``bq://PROJECT.DATASET.TABLE``.
            newest: Part of the table to read.

        Raises:
            UnreadableSample: The address has another form.
        """
        table = parse_table(address)
        if table is None:
            raise UnreadableSample(f"{address} does not name a table; the form is {FORM}")
        self._address, self._newest = address, newest
        self._table = table
        self.skipped: collections.Counter[str] = collections.Counter()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the recordings.

        Raises:
            UnreadableSample: The table cannot be queried, or has no rows in the period.
        """
        seen = set()
        with self._readable():
            for row in self._rows():
                for payload in row["request_payload"]:
                    for wav in self._wavs(payload):
                        digest = hashlib.sha256(wav).digest()
                        if digest in seen:
                            self.skipped[_REPEATED] += 1
                        else:
                            seen.add(digest)
                            yield wav

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentence about what was skipped so far, if anything was."""
        if not self.skipped:
            return ()
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        return (f"Of the requests in {self._address} these are left out: {counts}.",)

    def _rows(self) -> Iterator[Any]:
        from google.cloud import bigquery

        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=self._newest.days)
        retry = bigquery.DEFAULT_RETRY.with_timeout(_RETRY_SEC)
        job = bigquery.Client(project=self._table.project).query(
            f"SELECT request_payload FROM `{self._table.full_name}` WHERE logging_time >= @since "
            "ORDER BY logging_time DESC LIMIT @rows",
            job_config=bigquery.QueryJobConfig(
                query_parameters=[
                    bigquery.ScalarQueryParameter("since", "TIMESTAMP", since),
                    bigquery.ScalarQueryParameter("rows", "INT64", self._newest.rows),
                ],
                maximum_bytes_billed=MAX_BILLED_BYTES,
            ),
            retry=retry,
        )
        result = job.result(timeout=_QUERY_SEC, retry=retry)
        if not result.total_rows:
            raise UnreadableSample(
                f"{self._address} has no requests of the last {self._newest.days:g} days; read more days, or check "
                "vertex.endpoint.request_log and that the endpoint gets requests"
            )
        yield from result

    def _wavs(self, payload: str) -> list[bytes]:
        try:
            return recordings_of(payload)
        except (ValueError, RecursionError):
            self.skipped[_NO_RECORDING] += 1
            return []

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn the errors of Google's client into errors that name the next step."""
        from google.api_core import exceptions
        from google.auth import exceptions as auth_exceptions

        try:
            yield
        except exceptions.NotFound as error:
            raise UnreadableSample(
                f"{self._address} does not exist: {_text(error)}; name the table of vertex.endpoint.request_log, which "
                "exists from the first logged request or from Terraform on"
            ) from error
        except exceptions.Forbidden as error:
            raise UnreadableSample(
                f"{self._address} may not be read: {_text(error)}; needed are roles/bigquery.dataViewer on its data "
                f"set and roles/bigquery.jobUser on the project {self._table.project}"
            ) from error
        except auth_exceptions.GoogleAuthError as error:
            raise UnreadableSample(
                f"{self._address} cannot be read without credentials: {error}; run `gcloud auth application-default "
                "login` first"
            ) from error
        except (exceptions.GoogleAPIError, TimeoutError) as error:
            raise UnreadableSample(
                f"{self._address} cannot be queried: {_text(error)}; needed is a table of Vertex AI's request-response "
                f"logging, and a period of at most {MAX_BILLED_BYTES / 1e9:g} GB: read fewer days of a larger one"
            ) from error


def recordings_of(payload: str) -> list[bytes]:
    """Return the WAV files of a logged payload.

    Args:
        payload: Body of a RawPredict in TF Serving's columnar or row form, or an instance of a Predict, as JSON.

    Raises:
        ValueError: It is not JSON, of another signature, or has no audio.
        RecursionError: It is nested too deeply.
    """
    match json.loads(payload):
        case {"signature_name": name} if name not in _SIGNATURES:
            raise ValueError("another signature")
        case {"inputs": {"audio": list(items)}} | {"inputs": list(items)} | {"instances": list(items)}:
            return [_wav(item) for item in items]
        case item:
            return [_wav(item)]


def _wav(item: object) -> bytes:
    match item:
        case {"audio": {"b64": str(encoded)}} | {"b64": str(encoded)}:
            return base64.b64decode(encoded, validate=True)
    raise ValueError("no audio")


def _text(error: Exception) -> str:
    text = str(getattr(error, "message", error)) or f"no answer within {_QUERY_SEC:g} s"
    return text.splitlines()[0]
