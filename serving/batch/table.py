"""Check of a BigQuery table before a batch starts."""

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import bigquery

from modules.common.bigquery_table import Table
from modules.common.errors import SerError
from serving.google_cloud import error_text

_RETRY = bigquery.DEFAULT_RETRY.with_timeout(60)


class UnusableTable(SerError):
    """The table has rows of something else, or cannot be read."""

    code = "batch.unusable_table"


def errors_table(table: Table) -> Table:
    """Return the table of the recordings without an answer.

    Args:
        table: Table of the results.
    """
    return table._replace(name=f"{table.name}_errors")


def require_empty(table: Table) -> None:
    """Require that the tables of a batch are missing or empty: the batch will replace their content.

    Args:
        table: Table of the results.

    Raises:
        UnusableTable: One has rows, the data set is missing, or they cannot be read.
    """
    try:
        client = bigquery.Client(project=table.project)
        client.get_dataset(f"{table.project}.{table.dataset}", retry=_RETRY)
        for each in (table, errors_table(table)):
            if rows := _rows(client, each):
                raise UnusableTable(
                    f"{each.address} has {rows} rows, and no batch was started for it with this --temp_location; name "
                    "another table with --out, or delete this one"
                )
    except exceptions.NotFound as error:
        raise UnusableTable(f"the data set of {table.address} does not exist; create it first") from error
    except exceptions.Forbidden as error:
        raise UnusableTable(
            f"{table.address} may not be written: {error_text(error)}; needed are roles/bigquery.dataEditor on the "
            "data set and roles/bigquery.jobUser on the project"
        ) from error
    except auth_exceptions.GoogleAuthError as error:
        raise UnusableTable(
            f"{table.address} cannot be read without credentials: {error}; run `gcloud auth application-default login` "
            "first"
        ) from error
    except exceptions.GoogleAPIError as error:
        raise UnusableTable(f"{table.address} cannot be read: {error_text(error)}; check the network") from error


def _rows(client: bigquery.Client, table: Table) -> int:
    try:
        return client.get_table(table.full_name, retry=_RETRY).num_rows or 0
    except exceptions.NotFound:
        return 0
