"""Ed25519 keys of bundles (RFC 8032), out of PEM files.

Owns: reading key files. Messages never hold key material.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cacheserver.bundle.format import KEY_BYTES
from cacheserver.core.errors import ConfigError
from cacheserver.core.integrity.digest_text import from_base64
from cacheserver.core.plain_text import plain_text
from cacheserver.system.regular_file import read_regular

_MAX_KEY_FILE_BYTES = 1 << 16


def load_signing_key(path: str) -> Ed25519PrivateKey:
    """The private key in an unencrypted PKCS#8 PEM file. Raises ConfigError."""
    key = _load(path, lambda data: serialization.load_pem_private_key(data, None), "private")
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("is not an Ed25519 private key", where=path)
    return key


def load_trusted_key(path: str) -> Ed25519PublicKey:
    """A public key: 32 bytes in base64, or the name of a PEM file (SubjectPublicKeyInfo). Raises ConfigError."""
    try:
        return Ed25519PublicKey.from_public_bytes(from_base64(path.strip(), KEY_BYTES))
    except ValueError:
        pass
    key = _load(path, serialization.load_pem_public_key, "public")
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("is not an Ed25519 public key", where=path)
    return key


def raw_public(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def verifies(key: Ed25519PublicKey, seal: bytes, message: bytes) -> bool:
    """Whether ``seal`` is this key's signature of ``message``."""
    try:
        key.verify(seal, message)
    except InvalidSignature:
        return False
    return True


def _load(path: str, load: Callable[[bytes], object], word: str) -> object:
    try:
        return load(plain_text(read_regular(path, _MAX_KEY_FILE_BYTES)))
    except OSError as exc:
        raise ConfigError(exc.strerror or "cannot be read", where=path) from exc
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"is not an Ed25519 {word} key in PEM without a password", where=path) from exc
