"""Manifests of model folders, and their signatures, which OpenSSL's own program checks, too."""

import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from modules.export import manifest
from modules.export.manifest import MANIFEST_FILE, SIGNATURE_FILE, KeyUnusable, ManifestError, SignatureError
from tests.keys import write_keys


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path / "keys")


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    for path in ("saved_model.pb", "variables/variables.index", "assets.extra/labels.json"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    return folder


def change(folder):
    (folder / "saved_model.pb").write_bytes(b"saved_model.pC")  # of the same size


def remove(folder):
    (folder / "variables" / "variables.index").unlink()


def add(folder):
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"more")


@pytest.mark.parametrize(
    ("damage", "path"),
    [
        (change, "saved_model.pb"),
        (remove, "variables/variables.index"),
        (add, "assets.extra/tf_serving_warmup_requests"),
    ],
)
def test_a_changed_missing_or_additional_file_is_refused_by_its_path(model, damage, path):
    manifest.write(str(model), signing_key=None)
    manifest.require_intact(str(model))
    damage(model)
    with pytest.raises(ManifestError, match=path) as refused:
        manifest.require_intact(str(model))
    assert refused.value.code == "manifest.mismatch"


def test_every_changed_byte_of_a_signed_model_is_refused(model, keys):
    private, public = keys
    manifest.write(str(model), signing_key=private)
    paths = [path for path in model.rglob("*") if path.is_file()]
    assert len(paths) == 5
    for path in paths:
        content = path.read_bytes()
        for position in {0, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            with pytest.raises(ManifestError):
                manifest.require_intact(str(model), public_key=public)
        path.write_bytes(content)
    manifest.require_intact(str(model), public_key=public)


def test_a_manifest_that_is_not_one_is_refused(model):
    (model / MANIFEST_FILE).write_text('{"files": 3}')
    with pytest.raises(ManifestError):
        manifest.require_intact(str(model))


def test_without_manifest_only_a_required_signature_refuses(model, keys):
    manifest.require_intact(str(model))
    with pytest.raises(SignatureError):
        manifest.require_intact(str(model), public_key=keys[1])


def test_a_new_manifest_of_changed_files_needs_the_private_key(model, keys, tmp_path):
    manifest.write(str(model), signing_key=keys[0])
    change(model)
    other, _ = write_keys(tmp_path / "other")
    for signing_key in (None, other):  # the former leaves the old signature
        manifest.write(str(model), signing_key=signing_key)
        with pytest.raises(SignatureError):
            manifest.require_intact(str(model), public_key=keys[1])
    (model / SIGNATURE_FILE).unlink()
    with pytest.raises(SignatureError) as refused:
        manifest.require_intact(str(model), public_key=keys[1])
    assert refused.value.code == "manifest.signature"


def test_a_key_of_another_kind_is_refused(model, tmp_path, keys):
    private, public = write_keys(tmp_path / "ec", ec.generate_private_key(ec.SECP256R1()))
    manifest.write(str(model), signing_key=keys[0])
    missing = str(tmp_path / "missing.pem")
    for key in (public, missing, keys[0]):
        with pytest.raises(KeyUnusable):
            manifest.require_intact(str(model), public_key=key)
    before = (model / MANIFEST_FILE).read_bytes()
    for key in (private, missing, keys[1]):
        with pytest.raises(KeyUnusable) as refused:
            manifest.write(str(model), signing_key=key)
    assert refused.value.code == "manifest.key"
    assert (model / MANIFEST_FILE).read_bytes() == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_openssl_makes_the_keys_and_checks_the_signature(model, tmp_path):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    manifest.write(str(model), signing_key=str(private))
    manifest.require_intact(str(model), public_key=str(public))
    signed = ["-in", model / MANIFEST_FILE, "-sigfile", model / SIGNATURE_FILE]
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, *signed]
    assert subprocess.run(command, capture_output=True).returncode == 0
    change(model)
    manifest.write(str(model), signing_key=None)
    assert subprocess.run(command, capture_output=True).returncode != 0
