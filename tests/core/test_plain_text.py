"""Text as editors on Windows leave it is read as if they had left it alone; what is no text is not touched."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cacheserver.bundle.keys import load_signing_key, load_trusted_key
from cacheserver.core.plain_text import plain_text
from cacheserver.outgoing.session import client_context
from cacheserver.settings.file import read_toml
from cacheserver.tls.options import TlsOptions
from cacheserver.tls.pair import read_pair
from cacheserver.trust.signing import new_private_key, public_key
from tests.support.certificates import Pki, cert_pem, key_pem

EDITORS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda text: text,
    "crlf": lambda text: text.replace(b"\n", b"\r\n"),
    "mark": lambda text: codecs.BOM_UTF8 + text,
    "mark and crlf": lambda text: codecs.BOM_UTF8 + text.replace(b"\n", b"\r\n"),
    "utf-16": lambda text: codecs.BOM_UTF16_LE + text.decode().encode("utf-16-le"),
    "utf-16-be": lambda text: codecs.BOM_UTF16_BE + text.decode().encode("utf-16-be"),
}
every_editor = pytest.mark.parametrize("edited", EDITORS.values(), ids=EDITORS)


@every_editor
def test_a_pair_is_served(tmp_path: Path, edited: Callable[[bytes], bytes]) -> None:
    issued = Pki().issue()
    chain = edited(cert_pem(issued.certificate)) + EDITORS["mark"](cert_pem(issued.intermediate))
    whole = chain if chain[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else edited(issued.chain_pem)
    (tmp_path / "node.pem").write_bytes(whole)
    (tmp_path / "node.key").write_bytes(edited(key_pem(issued.key)))
    (tmp_path / "node.key").chmod(0o600)
    pair = read_pair(TlsOptions(certificate=str(tmp_path / "node.pem"), key=str(tmp_path / "node.key")))
    assert len(pair.facts.chain) == 1


@every_editor
def test_an_authority_is_trusted(tmp_path: Path, edited: Callable[[bytes], bytes]) -> None:
    (tmp_path / "ca.pem").write_bytes(edited("# Z\u00fcrich\n".encode() + cert_pem(Pki().root)))
    assert client_context(str(tmp_path / "ca.pem")).cert_store_stats()["x509_ca"] == 1


@every_editor
def test_keys_of_bundles_and_settings_are_read(tmp_path: Path, edited: Callable[[bytes], bytes]) -> None:
    pem = new_private_key()
    (tmp_path / "key").write_bytes(edited(pem))
    public = load_pem_private_key(pem, None).public_key()
    (tmp_path / "key.pub").write_bytes(edited(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)))
    (tmp_path / "node.toml").write_bytes(edited(b"[server]\ndrain_s = 2\n"))
    assert load_signing_key(str(tmp_path / "key"))
    assert load_trusted_key(str(tmp_path / "key.pub"))
    assert public_key(edited(pem)) == public_key(pem)
    assert read_toml(str(tmp_path / "node.toml"))[0] == {"server": {"drain_s": 2}}


@pytest.mark.parametrize("data", [b"", b"\x30\x82" + codecs.BOM_UTF8, codecs.BOM_UTF16_LE + b"\x00\xd8", b"\xff"])
def test_what_is_no_text_stays(data: bytes) -> None:
    assert plain_text(data) == data
