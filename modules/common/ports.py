"""Ports of TCP: the numbers that an address may have, and whether a program can listen on one."""

import errno
import socket
from collections.abc import Mapping

PORT = r"0*(?:6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
"""Pattern of 1 to 65535. gRPC would take 99999 as the remainder by 65536."""


def refusal(host: str, ports: Mapping[str, int]) -> str:
    """Return why a program cannot listen; empty if it can.

    Args:
        host: Interface.
        ports: Port of each option, by its name; 0 for a free one.
    """
    for option, port in ports.items():
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except (OSError, TypeError, UnicodeError) as error:  # not OSError: a name that DNS cannot have
            reason = error.strerror if isinstance(error, OSError) else "it is not the name of a host"
            taken = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
            advice = "another port, or end the program that uses it" if taken else "the address of an interface"
            return f"{option} {port} on --host {host}: {reason}; give {advice}"
    return ""
