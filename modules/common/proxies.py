"""Proxies that the environment names, as companies set them for all programs."""

import ipaddress
import os
import urllib.request
from collections.abc import Sequence
from typing import NamedTuple

GRPC_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables that gRPC reads, the first that is set, in lower case alone."""


class Proxy(NamedTuple):
    """A proxy and the variable that names it."""

    variable: str
    url: str

    @property
    def note(self) -> str:
        """Text for the message of a failed connection."""
        return (
            f"; the connection goes through the proxy {self.url} of {self.variable}. If the server can be reached "
            "without it, add its host to no_proxy"
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its name: ``localhost``, ``127.0.0.1``, ``[::1]``."""
    name = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def grpc_option(target: str) -> tuple[str, int]:
    """Return the option of a gRPC channel that keeps connections to this machine away from proxies.

    Args:
        target: Address ``HOST:PORT``.
    """
    return "grpc.enable_http_proxy", int(not is_loopback(host_of(target)))


def host_of(target: str) -> str:
    """Return the host of an address ``HOST:PORT``."""
    return target.rpartition(":")[0].strip("[]")


def proxy_of(host: str, variables: Sequence[str]) -> Proxy | None:
    """Return the proxy of connections to a host; None for a direct connection, as always to this machine.

    Args:
        host: Name or IP address.
        variables: Names of the variables, in the order of precedence.
    """
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    name = next((name for name in variables if os.environ.get(name)), None)
    if name is None:
        return None
    url = os.environ[name]
    return Proxy(name, url if "://" in url else f"http://{url}")


def rest_variables(scheme: str) -> tuple[str, ...]:
    """Return the variables that HTTP clients read.

    Args:
        scheme: ``http`` or ``https``.
    """
    names = (f"{scheme}_proxy", "all_proxy")
    return tuple(spelling for name in names for spelling in (name, name.upper()))
