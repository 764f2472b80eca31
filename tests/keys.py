"""Pairs of keys in PEM."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

_PEM = serialization.Encoding.PEM


def write_keys(folder: Path, key: Any = None) -> tuple[str, str]:
    """Write a private key, a new Ed25519 one by default, and its public key; return their addresses."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    private, public = folder / "private.pem", folder / "public.pem"
    folder.mkdir(exist_ok=True)
    private.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)
