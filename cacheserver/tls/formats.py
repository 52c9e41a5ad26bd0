"""Certificate and key files in the forms in which authorities hand them out: PEM, DER, PKCS#7.

Owns: bytes to parsed objects, with one clear line for what cannot be parsed. Messages never hold key material.
"""

from __future__ import annotations

import errno
import re
import warnings
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs7

from cacheserver.core.plain_text import plain_text
from cacheserver.system.regular_file import read_regular

MAX_FILE_BYTES: Final = 1 << 20
_MARK: Final = re.compile(rb"^-----(BEGIN|END) ([A-Z0-9 ]+)-----\s*$", re.MULTILINE)
_PKCS7_LABELS: Final = (b"PKCS7", b"CMS")


def read_bytes(path: str) -> bytes:
    """The ``plain_text`` of a regular file of at most 1 MiB, or its bytes. OSError, or ValueError for anything else."""
    try:
        return plain_text(read_regular(path, MAX_FILE_BYTES))
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.EISDIR):
            raise ValueError("is not a regular file") from exc
        if exc.errno == errno.EFBIG:
            raise ValueError("is larger than 1 MiB") from exc
        raise


def pem_certificates(data: bytes) -> list[x509.Certificate]:
    """Every certificate of a PEM file, in its order. ValueError: none, cut short, or not parsable."""
    _check_whole(data)
    if not any(label == b"CERTIFICATE" for word, label in _MARK.findall(data)):
        raise ValueError("holds no certificate in PEM form")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as exc:
        raise ValueError("holds a certificate that cannot be parsed") from exc


def any_certificates(data: bytes) -> list[x509.Certificate]:
    """Every certificate of a PEM, DER or PKCS#7 file, in its order. ValueError."""
    labels = {label for word, label in _MARK.findall(data)}
    if labels & set(_PKCS7_LABELS):
        _check_whole(data)
        return _pkcs7(data.replace(b" CMS-----", b" PKCS7-----"), pem=True)
    if labels:
        return pem_certificates(data)
    try:
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        return _pkcs7(data, pem=False)


def _pkcs7(data: bytes, *, pem: bool) -> list[x509.Certificate]:
    load = pkcs7.load_pem_pkcs7_certificates if pem else pkcs7.load_der_pkcs7_certificates
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sets that DER wants sorted and authorities do not sort
            found = load(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError("is not a certificate in PEM, DER or PKCS#7 form") from exc
    if not found:
        raise ValueError("holds no certificate")
    return found


def private_key(data: bytes) -> PrivateKeyTypes:
    """The private key of a PEM file. ValueError: none, cut short, behind a password, or of an unknown kind."""
    _check_whole(data)
    if not any(label.endswith(b"PRIVATE KEY") for word, label in _MARK.findall(data)):
        raise ValueError("holds no private key in PEM form")
    try:
        return serialization.load_pem_private_key(data, None)
    except TypeError as exc:
        raise ValueError("is protected by a password, which nobody could type when the node starts") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError("holds a private key that cannot be used") from exc


def _check_whole(data: bytes) -> None:
    """ValueError where a PEM block has no end: a parser would silently leave out the rest of a half-written file."""
    words = [word for word, label in _MARK.findall(data)]
    if not data.strip():
        raise ValueError("is empty")
    if words != [b"BEGIN", b"END"] * (len(words) // 2) or data.count(b"-----") != 2 * len(words):
        raise ValueError("is cut short or half written")
