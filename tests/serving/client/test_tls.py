"""Both protocols over TLS."""

import subprocess
import sys

import pytest

from serving.client import Client, ServerUnreachable

# In a process of its own: gRPC keeps the first default roots of a process, and other tests set theirs.
UNTRUSTING = """
import sys
from serving.client import Client, ServerUnreachable
with Client(sys.argv[1], timeout_sec=30) as client:
    try:
        client.predict(sys.stdin.buffer.read())
    except ServerUnreachable as error:
        print(error.code)
"""


def test_tls(run_server, push, tmp_path, certificate, wav_bytes):
    push(tmp_path / "serving", 1)
    certificate_file, key_file = certificate
    running = run_server(
        model_base_path=tmp_path / "serving", tls_certificate_file=certificate_file, tls_key_file=key_file
    )
    grpcs, https = f"grpcs://{running.address}", running.rest_url.replace("http:", "https:")
    for address in (grpcs, https):
        with Client(address, ca_file=certificate_file) as client:
            assert client.predict(wav_bytes).emotion
    for untrusting in (https, running.address, running.rest_url):
        with Client(untrusting, timeout_sec=30) as client, pytest.raises(ServerUnreachable):
            client.predict(wav_bytes)
    command = [sys.executable, "-c", UNTRUSTING, grpcs]
    done = subprocess.run(command, input=wav_bytes, capture_output=True, check=True)
    assert done.stdout.decode().split() == [ServerUnreachable.code]
    running.stop()
