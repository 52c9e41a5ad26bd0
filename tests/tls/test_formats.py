"""Certificate files as authorities send them, and as a writer leaves them half way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs7

from cacheserver.tls.formats import any_certificates, pem_certificates, private_key, read_bytes
from tests.support.certificates import Issued, Pki, cert_pem, key_pem


@pytest.fixture(scope="module")
def issued() -> Issued:
    return Pki().issue()


@pytest.mark.parametrize("form", ["pem", "der", "p7-pem", "p7-der", "cms-label", "with-text", "with-key"])
def test_every_form_of_an_authority_is_read(form: str, issued: Issued) -> None:
    both = [issued.certificate, issued.intermediate]
    bag = pkcs7.serialize_certificates(both, Encoding.PEM)
    data, expected = {
        "pem": (cert_pem(*both), both),
        "der": (issued.certificate.public_bytes(Encoding.DER), both[:1]),
        "p7-pem": (bag, both),
        "p7-der": (pkcs7.serialize_certificates(both, Encoding.DER), both),
        "cms-label": (bag.replace(b" PKCS7-", b" CMS-"), both),
        "with-text": (b"Certificate:\n    Data:\r\n" + cert_pem(*both).replace(b"\n", b"\r\n"), both),
        "with-key": (key_pem(issued.key) + cert_pem(*both), both),
    }[form]
    found = any_certificates(data)
    assert set(found) == set(expected)
    assert len(found) == len(expected)


def test_a_chain_cut_inside_a_certificate_does_not_pass_for_a_shorter_chain(issued: Issued) -> None:
    data = issued.chain_pem
    whole = cert_pem(issued.certificate)
    for size in (0, 1, 30, len(whole) - 3, len(whole) + 5, len(whole) + 40, len(data) - 30, len(data) - 3):
        with pytest.raises(ValueError, match=r"empty|half written|no certificate"):
            pem_certificates(data[:size])
    assert len(pem_certificates(data)) == 2


def test_no_prefix_of_a_key_passes(issued: Issued) -> None:
    data = key_pem(issued.key)
    for size in (0, 20, 60, len(data) - 5):
        with pytest.raises(ValueError, match=r"empty|half written|no private key"):
            private_key(data[:size])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "PEM, DER or PKCS#7"),
        (b"\x30\x82\x01\x00" + bytes(200), "PEM, DER or PKCS#7"),
        (b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", "PEM, DER or PKCS#7"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be parsed"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no certificate"),
    ],
)
def test_what_holds_no_certificate_is_refused_with_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words if data else "PEM, DER or PKCS#7"):
        any_certificates(data)


def test_key_behind_a_password_is_refused_without_asking_for_it(issued: Issued) -> None:
    data = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(ValueError, match="password"):
        private_key(data)


def test_only_regular_files_of_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    for name, words in (("pipe", "regular"), ("large", "1 MiB"), (".", "regular")):
        with pytest.raises(ValueError, match=words):
            read_bytes(str(tmp_path / name))
