"""Manifest of a pushed model: size and SHA-256 of each file, signed with Ed25519 where a key is set.

``manifest.json`` lies in ``assets.extra``, which TF Serving ignores. ``manifest.sig`` is the signature of its bytes, so
that ``openssl pkeyutl -verify -rawin`` checks it, too. Neither file lists itself.
"""

import posixpath
from typing import TYPE_CHECKING

import pydantic

from modules.common import addresses
from modules.common.digest import file_digest
from modules.common.errors import SerError
from modules.export.contract import EXTRA_ASSETS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

MANIFEST_FILE = posixpath.join(EXTRA_ASSETS, "manifest.json")
SIGNATURE_FILE = posixpath.join(EXTRA_ASSETS, "manifest.sig")

_LISTED_PATHS = 5


class ManifestError(SerError, RuntimeError):
    """The files of a model are not those of its manifest."""

    code = "manifest.mismatch"


class SignatureError(ManifestError):
    """The manifest of a model has no valid signature, or does not exist, and a public key was given."""

    code = "manifest.signature"


class KeyUnusable(SerError, ValueError):
    """A file does not hold the Ed25519 key that is required."""

    code = "manifest.key"


class FileHash(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Content of one file.

    Attributes:
        size_bytes: Size in bytes.
        sha256: SHA-256 in hexadecimal digits.
    """

    size_bytes: int
    sha256: str


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    """All files of a model.

    Attributes:
        files: Content of each file, by its path below the folder of the model.
    """

    files: dict[str, FileHash]

    @property
    def json_bytes(self) -> bytes:
        """The manifest as it is written and signed."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def describe(model_dir: str) -> Manifest:
    """Read all files of a model, except for manifest and signature.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.

    Raises:
        OSError: A file cannot be read.
    """
    paths = [path for path in addresses.files(model_dir) if path not in (MANIFEST_FILE, SIGNATURE_FILE)]
    digests = {path: file_digest(posixpath.join(model_dir, path)) for path in paths}
    return Manifest(files={path: FileHash(**digest._asdict()) for path, digest in digests.items()})


def write(model_dir: str, *, signing_key: str | None) -> None:
    """Write the manifest of a complete model, and sign it.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.
        signing_key: Address of an Ed25519 private key in PEM; None leaves the manifest unsigned.

    Raises:
        KeyUnusable: The key cannot be used.
        OSError: A file cannot be read or written.
    """
    key = private_key(signing_key) if signing_key else None
    content = describe(model_dir).json_bytes
    addresses.write_bytes(posixpath.join(model_dir, MANIFEST_FILE), content)
    if key is not None:
        addresses.write_bytes(posixpath.join(model_dir, SIGNATURE_FILE), key.sign(content))


def require_intact(model_dir: str, *, public_key: str | None = None) -> None:
    """Require that the files of a model are those of its manifest.

    A model without a manifest, such as the output of the Trainer, passes where no public key is given.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.
        public_key: Address of an Ed25519 public key in PEM; with it a valid signature is required.

    Raises:
        ManifestError: A file was changed, removed or added.
        SignatureError: A public key is given, and the manifest or its valid signature is missing.
        KeyUnusable: The key cannot be used.
        OSError: A file cannot be read.
    """
    content = _content(posixpath.join(model_dir, MANIFEST_FILE))
    if public_key:
        _require_signature(model_dir, content, public_key)
    if content is None:
        return
    try:
        manifest = Manifest.model_validate_json(content)
    except pydantic.ValidationError as error:
        raise ManifestError(
            f"{model_dir}/{MANIFEST_FILE} is not a manifest: {error.errors()[0]['msg']}; push the model again"
        ) from error
    require_same(model_dir, manifest)


def require_same(model_dir: str, manifest: Manifest) -> None:
    """Require that the files of a model are those of a given manifest.

    Args:
        model_dir: Folder of the SavedModel, local or in a bucket.
        manifest: The required files.

    Raises:
        ManifestError: A file was changed, removed or added.
        OSError: A file cannot be read.
    """
    found, expected = describe(model_dir).files, manifest.files
    differences = {
        "changed": [path for path in expected if path in found and found[path] != expected[path]],
        "missing": [path for path in expected if path not in found],
        "not listed": [path for path in found if path not in expected],
    }
    parts = [f"{kind}: {_listed(paths)}" for kind, paths in differences.items() if paths]
    if parts:
        raise ManifestError(
            f"the files of {model_dir} are not those of its manifest ({'; '.join(parts)}). Delete this copy, and push "
            "or copy the model again"
        )


def _require_signature(model_dir: str, content: bytes | None, public_key: str) -> None:
    from cryptography.exceptions import InvalidSignature

    key = _public_key(public_key)
    signature = _content(posixpath.join(model_dir, SIGNATURE_FILE))
    if content is None or signature is None:
        missing = MANIFEST_FILE if content is None else SIGNATURE_FILE
        raise SignatureError(
            f"{model_dir} has no {missing}, and {public_key} is required to have signed it; push the model with "
            "push.signing_key"
        )
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise SignatureError(
            f"the key of {public_key} did not sign {model_dir}/{MANIFEST_FILE}; name the key that belongs to "
            "push.signing_key, or push the model again"
        ) from None


def private_key(address: str) -> "ed25519.Ed25519PrivateKey":
    """Return the key that signs a manifest.

    Args:
        address: Address of an Ed25519 private key in PEM.

    Raises:
        KeyUnusable: The key cannot be used.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_private_key(addresses.read_bytes(address), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnusable(_unusable(address, "private", str(error))) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyUnusable(_unusable(address, "private", f"it holds a {type(key).__name__}"))
    return key


def _public_key(address: str) -> "ed25519.Ed25519PublicKey":
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = serialization.load_pem_public_key(addresses.read_bytes(address))
    except (OSError, ValueError) as error:
        raise KeyUnusable(_unusable(address, "public", str(error))) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise KeyUnusable(_unusable(address, "public", f"it holds a {type(key).__name__}"))
    return key


def _unusable(address: str, kind: str, reason: str) -> str:
    return (
        f"{address} cannot be used as a {kind} key: {reason}; allowed is an unencrypted Ed25519 {kind} key in PEM, as "
        "`openssl genpkey -algorithm ed25519` makes it"
    )


def _content(address: str) -> bytes | None:
    try:
        return addresses.read_bytes(address)
    except FileNotFoundError:
        return None


def _listed(paths: list[str]) -> str:
    more = len(paths) - _LISTED_PATHS
    return ", ".join(paths[:_LISTED_PATHS]) + (f" and {more} more" if more > 0 else "")
