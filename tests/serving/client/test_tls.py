"""Both protocols over TLS."""

import pytest

from serving.client import Client, ServerUnreachable


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
    for untrusting in (grpcs, https, running.address, running.rest_url):
        with Client(untrusting, timeout_sec=5) as client, pytest.raises(ServerUnreachable):
            client.predict(wav_bytes)
    running.stop()
