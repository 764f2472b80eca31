"""An SMTP server on loopback that keeps what it receives, as far as ``smtplib`` uses the protocol."""

import contextlib
import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage

_REPLIES = {"EHLO": "250 ok", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 end with .", "QUIT": "221 bye"}


@contextlib.contextmanager
def mailbox() -> Iterator[tuple[int, list[EmailMessage]]]:
    """Serve; yield the port, and the list of messages so far."""
    received: list[EmailMessage] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._reply("220 localhost")
            for line in self.rfile:
                command = line[:4].decode().upper()
                self._reply(_REPLIES.get(command, "502 not implemented"))
                if command == "DATA":
                    received.append(email.message_from_bytes(self._data(), policy=email.policy.default))
                    self._reply("250 ok")
                elif command == "QUIT":
                    return

        def _data(self) -> bytes:
            return b"".join(line.removeprefix(b".") for line in iter(self.rfile.readline, b".\r\n"))

        def _reply(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], received
        server.shutdown()
