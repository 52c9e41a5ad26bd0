"""Pairs of files: each way in which they cannot be used has one line; what is loaded is what handshakes get."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from cacheserver.core.errors import ConfigError
from cacheserver.tls import formats
from cacheserver.tls.facts import CertificateFacts
from cacheserver.tls.options import TlsOptions
from cacheserver.tls.pair import hand_over, policy_context, read_pair, signature_of
from tests.support.certificates import Pki, cert_pem, key_pem, new_key, replace, write_pair

PKI = Pki()


def options_of(folder: Path) -> TlsOptions:
    return TlsOptions(certificate=str(folder / "node.pem"), key=str(folder / "node.key"))


@pytest.fixture
def options(tmp_path: Path) -> TlsOptions:
    issued = PKI.issue()
    write_pair(tmp_path, issued.chain_pem, key_pem(issued.key))
    return options_of(tmp_path)


def test_a_good_pair_says_what_it_is(options: TlsOptions) -> None:
    pair = read_pair(options)
    assert pair.facts.names == ("cache.example.test",)
    assert pair.facts.chain == ("CN=test issuing",)
    assert pair.facts.key_type == "EC P-256"
    assert pair.signature == signature_of(options)


def spoil_missing(certificate: Path, key: Path) -> None:
    key.unlink()


def spoil_dangling(certificate: Path, key: Path) -> None:
    certificate.unlink()
    certificate.symlink_to("nowhere")


def spoil_loose(certificate: Path, key: Path) -> None:
    key.chmod(0o644)


def spoil_writable(certificate: Path, key: Path) -> None:
    key.chmod(0o660)


def spoil_half_certificate(certificate: Path, key: Path) -> None:
    certificate.write_bytes(certificate.read_bytes()[:-200])


def spoil_empty(certificate: Path, key: Path) -> None:
    certificate.write_bytes(b"")


def spoil_half_key(certificate: Path, key: Path) -> None:
    key.write_bytes(key.read_bytes()[:100])


def spoil_other_key(certificate: Path, key: Path) -> None:
    key.write_bytes(key_pem(new_key()))


def spoil_order(certificate: Path, key: Path) -> None:
    issued = PKI.issue()
    key.write_bytes(key_pem(issued.key))
    certificate.write_bytes(cert_pem(PKI.intermediate, issued.certificate))


def spoil_weak(certificate: Path, key: Path) -> None:
    issued = PKI.issue(key=rsa.generate_private_key(65537, 1024))
    key.write_bytes(key_pem(issued.key))
    certificate.write_bytes(issued.chain_pem)


def spoil_folder(certificate: Path, key: Path) -> None:
    certificate.unlink()
    certificate.mkdir()


SPOILT: list[tuple[Callable[[Path, Path], None], str, str]] = [
    (spoil_missing, "tls.key", "No such file"),
    (spoil_dangling, "tls.certificate", "No such file"),
    (spoil_loose, "tls.key", "chmod 640"),
    (spoil_writable, "tls.key", "chmod 640"),
    (spoil_half_certificate, "tls.certificate", "half written"),
    (spoil_empty, "tls.certificate", "is empty"),
    (spoil_half_key, "tls.key", "half written"),
    (spoil_other_key, "tls.certificate", "does not belong to tls.key"),
    (spoil_order, "tls.certificate", "must be the first"),
    (spoil_weak, "tls.certificate", "too weak: key is RSA 1024"),
    (spoil_folder, "tls.certificate", "not a regular file"),
]


@pytest.mark.parametrize(("spoil", "key", "words"), SPOILT)
def test_unusable_pair_is_one_line_that_names_file_and_setting(
    spoil: Callable[[Path, Path], None], key: str, words: str, options: TlsOptions
) -> None:
    spoil(Path(options.certificate), Path(options.key))
    with pytest.raises(ConfigError) as caught:
        read_pair(options)
    assert caught.value.key == key
    assert caught.value.where == getattr(options, key.removeprefix("tls."))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_may_read_the_key(options: TlsOptions) -> None:
    Path(options.key).chmod(0o640)
    assert read_pair(options).facts.key_type == "EC P-256"


def test_every_way_of_replacing_a_file_changes_the_signature(options: TlsOptions, tmp_path: Path) -> None:
    path = Path(options.certificate)
    data = path.read_bytes()
    seen = {signature_of(options)}
    replace(path, data)  # renamed over: another inode
    seen.add(signature_of(options))
    times = path.stat()
    path.write_bytes(data[:-1] + b" ")  # same inode, same size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # and the old time
    seen.add(signature_of(options))
    other = tmp_path / "other"
    other.write_bytes(data)
    path.unlink()
    path.symlink_to(other)
    seen.add(signature_of(options))
    other.unlink()
    seen.add(signature_of(options))
    assert len(seen) == 5


def test_a_file_replaced_between_two_reads_is_not_described_by_the_old_one(
    options: TlsOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = PKI.issue()
    write_pair(tmp_path, issued.chain_pem, key_pem(issued.key))
    renewed = PKI.issue(key=issued.key)  # a renewal with the same key loads without complaint

    def read_and_replace(path: str) -> bytes:
        data = formats.read_bytes(path)
        if path == options.certificate:
            replace(Path(path), renewed.chain_pem)
        return data

    monkeypatch.setattr("cacheserver.tls.pair.read_bytes", read_and_replace)
    with pytest.raises(ConfigError, match="changed while it was read"):
        read_pair(options)


def test_policy_is_tls_12_and_13_with_forward_secrecy_only() -> None:
    context = policy_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    old = [cipher for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"]
    assert {str(cipher["name"]).split("-")[0] for cipher in old} == {"ECDHE"}
    assert all(cipher["aead"] for cipher in old)
    assert len(old) == 6


async def served(context: ssl.SSLContext, *, name: str | None, types: str) -> int:
    """Serial number of what a client that offers these signature algorithms gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(types)
    try:
        _, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname()[:2], ssl=client, server_hostname=name or ""
        )
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
    finally:
        server.close()
    return hash(der)


def load_into(context: ssl.SSLContext, options: TlsOptions) -> CertificateFacts:
    pair = read_pair(options)
    hand_over(context, pair)
    return pair.facts


@pytest.mark.parametrize("name", ["cache.example.test", None])
async def test_after_a_change_of_the_key_type_nobody_gets_the_old_certificate(
    name: str | None, options: TlsOptions, tmp_path: Path
) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    first = PKI.issue(key=rsa_key)
    write_pair(tmp_path, first.chain_pem, key_pem(rsa_key))
    context = policy_context()
    load_into(context, options)
    before = await served(context, name=name, types="ECDHE-RSA-AES128-GCM-SHA256")
    second = PKI.issue()
    write_pair(tmp_path, second.chain_pem, key_pem(second.key))
    assert load_into(context, options).key_type == "EC P-256"
    assert await served(context, name=name, types="ECDHE-ECDSA-AES128-GCM-SHA256") != before
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await served(context, name=name, types="ECDHE-RSA-AES128-GCM-SHA256")


async def test_files_that_cannot_be_used_leave_a_running_context_as_it_was(options: TlsOptions, tmp_path: Path) -> None:
    context = policy_context()
    load_into(context, options)
    before = await served(context, name=None, types="ECDHE+AESGCM")
    spoil_other_key(Path(options.certificate), Path(options.key))
    with pytest.raises(ConfigError):
        load_into(context, options)
    assert await served(context, name=None, types="ECDHE+AESGCM") == before
