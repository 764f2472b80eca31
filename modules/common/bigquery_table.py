"""Addresses of BigQuery tables, ``bq://PROJECT.DATASET.TABLE``."""

import re
from typing import NamedTuple

FORM = "bq://PROJECT.DATASET.TABLE"

_SCHEME = "bq://"
_TABLE = re.compile(r"bq://([a-z][a-z0-9:.-]{4,}[a-z0-9])\.(\w{1,1024})\.([\w-]{1,1024})")


class Table(NamedTuple):
    """A table.

    Attributes:
        project: Project, with its domain, if it has one.
        dataset: Data set.
        name: Table.
    """

    project: str
    dataset: str
    name: str

    @property
    def full_name(self) -> str:
        """Name in SQL."""
        return ".".join(self)

    @property
    def address(self) -> str:
        """Address, with ``bq://``."""
        return _SCHEME + self.full_name


def is_table(address: str) -> bool:
    """Return whether an address names a BigQuery table."""
    return address.startswith(_SCHEME)


def parse_table(address: str) -> Table | None:
    """Return the table of an address, or ``None`` if the address has another form than :data:`FORM`."""
    match = _TABLE.fullmatch(address)
    return Table(*match.groups()) if match else None
