"""Imported chains: the order a server sends, and one reason for each certificate that clients would refuse."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from cacheserver.tls.chain import Chain, chain_for
from cacheserver.tls.checks import weak_key
from cacheserver.tls.issue import request_pem
from tests.support.certificates import NAME, Issued, Key, Pki, new_key, write_pair

PKI = Pki()


def ordered(issued: Issued, *more: x509.Certificate, names: Sequence[str] = (NAME,)) -> Chain:
    return chain_for(issued.key, [issued.certificate, *more], names=names, now_s=time.time())


def refusal(issued: Issued, *more: x509.Certificate, names: Sequence[str] = (NAME,)) -> str:
    with pytest.raises(ValueError) as caught:
        ordered(issued, *more, names=names)
    return str(caught.value)


def test_any_order_becomes_leaf_then_issuers_without_the_root() -> None:
    issued = PKI.issue()
    for mixed in itertools.permutations((issued.certificate, PKI.intermediate, PKI.root)):
        chain = chain_for(issued.key, mixed, names=[NAME], now_s=time.time())
        assert chain.certificates == (issued.certificate, PKI.intermediate)
        assert (chain.complete, chain.left_out) == (True, ())
        assert chain.pem() == issued.chain_pem


def test_strangers_are_left_out_and_a_missing_issuer_is_told() -> None:
    issued, stranger = PKI.issue(), Pki()
    chain = ordered(issued, stranger.intermediate)  # the same name, another key
    assert chain.certificates == (issued.certificate,)
    assert chain.left_out == ("CN=test issuing",)
    assert not chain.complete


def test_of_two_certificates_for_one_key_the_later_one_is_taken() -> None:
    old = PKI.issue(days=(-20, 5))
    new = PKI.issue(key=old.key, days=(-1, 60))
    assert ordered(old, new.certificate).certificates == (new.certificate,)


def test_wrong_key_is_refused() -> None:
    issued = PKI.issue()
    with pytest.raises(ValueError, match="belongs to the key"):
        chain_for(new_key(), [issued.certificate], names=[], now_s=time.time())


@pytest.mark.parametrize(
    ("issued", "words"),
    [
        (PKI.issue(days=(-10, -1)), "expired at 20"),
        (PKI.issue(days=(1, 10)), "not valid before 20"),
        (PKI.issue("other.example.test"), f"is not for {NAME}; it holds other.example.test"),
        (PKI.issue(""), "no subjectAltName"),
        (PKI.issue(uses=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "lacks serverAuth"),
        (PKI.issue(key=rsa.generate_private_key(65537, 1024)), "RSA 1024; RSA needs at least 2048"),
        (PKI.issue(key=ec.generate_private_key(ec.SECP224R1())), "secp224r1; EC needs at least P-256"),
    ],
)
def test_unfit_certificate_is_refused_with_its_reason(issued: Issued, words: str) -> None:
    assert words in refusal(issued, PKI.intermediate)


def test_expired_issuer_is_refused_by_name() -> None:
    pki = Pki(intermediate_days=(-9, -1))
    assert "issuer CN=test issuing: certificate expired" in refusal(pki.issue(), pki.intermediate)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_weak_signature_is_refused(tmp_path: Path) -> None:
    key = new_key()
    certificate = signed_over_sha1(key, tmp_path)
    with pytest.raises(ValueError, match="signed with SHA-1"):
        chain_for(key, [certificate, PKI.intermediate], names=[NAME], now_s=time.time())


def signed_over_sha1(key: Key, folder: Path) -> x509.Certificate:
    """A certificate whose signature is over SHA-1, which the library refuses to make."""
    issuer, issuer_key = PKI.write_issuer(folder)
    request = folder / "request.csr"
    request.write_bytes(request_pem(key, [NAME]))
    command: list[str | Path] = [
        "openssl",
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        issuer,
        "-CAkey",
        issuer_key,
        "-sha1",
    ]
    command += ["-set_serial", "7", "-copy_extensions", "copy"]
    made = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    return x509.load_pem_x509_certificate(made)


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()), new_key()]
)
def test_keys_that_clients_take_are_fit(key: Key) -> None:
    assert weak_key(key) is None
    assert weak_key(key.public_key()) is None


def test_a_key_of_another_kind_is_not() -> None:
    assert "Ed25519" in str(weak_key(ed25519.Ed25519PrivateKey.generate()))


def test_the_installed_file_is_a_pair_that_loads(tmp_path: Path) -> None:
    issued = PKI.issue()
    certificate, key = write_pair(tmp_path, ordered(issued, PKI.intermediate).pem(), b"")
    assert certificate.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert key.stat().st_mode & 0o777 == 0o600
