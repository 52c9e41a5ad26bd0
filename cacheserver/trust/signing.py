"""Ed25519 keys and signatures of content catalogues (RFC 8032).

Owns: making, reading and writing keys as bytes, signing and checking documents. Must not open files.
"""

from __future__ import annotations

from collections.abc import Collection

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from msgspec.structs import replace

from cacheserver.core.errors import CatalogueError
from cacheserver.core.integrity.content_catalogue import CatalogueDocument, Signature, sign_bytes
from cacheserver.core.integrity.digest_text import from_base64, to_base64
from cacheserver.core.plain_text import plain_text

KEY_BYTES = 32


def new_private_key() -> bytes:
    """A fresh private key as unencrypted PEM (PKCS #8)."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_key(private_pem: bytes) -> bytes:
    """The 32 raw bytes of the public key that belongs to a private one. Raises CatalogueError."""
    return _private(private_pem).public_key().public_bytes_raw()


def parse_public_key(text: str) -> bytes:
    """The 32 raw bytes of a public key in base64; white space around it is allowed. Raises CatalogueError."""
    try:
        raw = from_base64(text.strip(), KEY_BYTES)
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as exc:
        raise CatalogueError("not an Ed25519 public key in base64") from exc
    return raw


def sign(document: CatalogueDocument, private_pem: bytes) -> CatalogueDocument:
    """The document with a new signature in place of any old one. Raises CatalogueError for a bad key."""
    key = _private(private_pem)
    public, value = key.public_key().public_bytes_raw(), key.sign(sign_bytes(document))
    return replace(document, signature=Signature(alg="Ed25519", key=to_base64(public), value=to_base64(value)))


def verify(document: CatalogueDocument, trusted_keys: Collection[bytes]) -> None:
    """Check that one of ``trusted_keys`` (raw public keys) signed the document.

    Raises CatalogueError where it is unsigned, signed by another key, or changed since.
    """
    signature = document.signature
    if signature is None:
        raise CatalogueError("catalogue is not signed")
    key = from_base64(signature.key, KEY_BYTES)
    if key not in trusted_keys:
        raise CatalogueError(f"catalogue is signed by {signature.key}, which is not a trusted key")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(from_base64(signature.value, 64), sign_bytes(document))
    except (InvalidSignature, ValueError) as exc:
        raise CatalogueError("catalogue's signature does not fit its contents") from exc


def _private(private_pem: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(plain_text(private_pem), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CatalogueError("not an unencrypted private key in PEM") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise CatalogueError("the private key is not an Ed25519 key")
    return key
