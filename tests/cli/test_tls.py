"""``cacheserver tls``: from the request to the installed file, and one clear line for each refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7

from cacheserver.cli import changing
from cacheserver.cli import main as cli
from cacheserver.system.regular_file import folder_held
from cacheserver.tls.facts import alternative_names
from tests.support.certificates import NAME, Issued, Pki, cert_pem, key_pem, new_key, replace

PKI = Pki()
NAMES = (NAME, "192.0.2.7", "2001:db8::1")


class Place:
    """A configuration, its files, and the commands on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.certificate, self.key = folder / "node.pem", folder / "node.key"
        self.config = folder / "node.toml"
        names = ", ".join(f"'{name}'" for name in NAMES)
        self.config.write_text(f"[tls]\ncertificate = 'node.pem'\nkey = 'node.key'\nnames = [{names}]\n")
        self.out = self.err = ""
        self._capsys = capsys

    def run(self, command: str, *arguments: str | Path) -> int:
        """One command with the configuration; its exit code."""
        code = cli.run(["tls", command, *map(str, arguments), "--config", str(self.config)])
        self.out, self.err = self._capsys.readouterr()
        return code

    def refused(self, command: str, *arguments: str | Path) -> str:
        """The one line of a command that must fail with exit code 2."""
        assert self.run(command, *arguments) == 2
        assert self.err.startswith("cacheserver: error: ")
        assert self.err.count("\n") == 1
        return self.err

    def key_of_file(self) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
        """The private key in its file."""
        key = load_pem_private_key(self.key.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        return key

    def sent(self, data: bytes, name: str = "sent") -> Path:
        """What an authority sent, as a file."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def issued(self, **how: object) -> Issued:
        """A certificate for the key in its file."""
        return PKI.issue(*NAMES, key=self.key_of_file(), **how)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


@pytest.mark.parametrize(
    ("word", "size"), [("rsa2048", 2048), ("rsa3072", 3072), ("rsa4096", 4096), ("p256", 256), ("p384", 384)]
)
def test_csr_asks_for_every_name_and_signs_with_a_key_that_only_the_owner_reads(
    word: str, size: int, place: Place
) -> None:
    assert place.run("csr", "--key-type", word) == 0
    request = x509.load_pem_x509_csr(place.out.encode())
    assert request.is_signature_valid
    assert set(alternative_names(request.extensions)) == set(NAMES)
    key = place.key_of_file()
    assert key.key_size == size
    assert request.public_key() == key.public_key()
    assert place.key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" not in place.out + place.err


def test_csr_makes_the_folder_of_the_key_and_names_the_key_where_it_cannot(place: Place) -> None:
    key = place.key.parent / "tls" / "node.key"
    assert place.run("csr", "--key-type", "p256", "--key", str(key)) == 0
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert place.run("csr", "--key-type", "p256", "--key", "/proc/none/node.key") == 1
    assert place.err == "cacheserver: error: /proc/none/node.key: No such file or directory\n"


def test_csr_replaces_a_key_only_with_force(place: Place) -> None:
    assert place.run("csr", "--key-type", "p256") == 0
    before = place.key.read_bytes()
    assert "is there already" in place.refused("csr", "--key-type", "p256")
    assert place.run("csr", "--reuse-key") == 0
    assert place.key.read_bytes() == before
    assert place.run("csr", "--key-type", "p256", "--force") == 0
    assert place.key.read_bytes() != before
    assert "contradict" in place.refused("csr", "--force", "--reuse-key")


@pytest.mark.parametrize("name", ["caché.example", "cache:443", "*", "a b", ""])
def test_csr_refuses_what_is_no_name_before_it_makes_a_key(name: str, place: Place) -> None:
    assert "--name" in place.refused("csr", "--name", name)
    assert not place.key.exists()


def test_csr_without_names_or_files_says_what_is_missing(place: Place) -> None:
    place.config.write_text("[tls]\nkey = 'node.key'\n")
    assert "--name" in place.refused("csr")
    place.config.write_text("")
    assert "--key" in place.refused("csr", "--name", NAME)


@pytest.mark.parametrize("form", ["pem", "der", "pkcs7", "two-files"])
def test_import_installs_what_was_sent_in_the_order_of_a_server(form: str, place: Place) -> None:
    place.run("csr", "--key-type", "p256")
    issued = place.issued()
    everything = [PKI.root, issued.certificate, PKI.intermediate]
    files = {
        "pem": [place.sent(cert_pem(*everything), "pem")],
        "der": [place.sent(issued.certificate.public_bytes(Encoding.DER), "der")],
        "pkcs7": [place.sent(pkcs7.serialize_certificates(everything, Encoding.DER), "p7b")],
        "two-files": [place.sent(cert_pem(PKI.intermediate), "ca"), place.sent(cert_pem(issued.certificate), "leaf")],
    }[form]
    assert place.run("import", *files) == 0
    expected = cert_pem(issued.certificate) if form == "der" else issued.chain_pem
    assert place.certificate.read_bytes() == expected
    assert ("clients must know its issuer" in place.err) == (form in ("der", "two-files"))
    assert place.run("show") == 0


def test_import_refuses_with_the_reason_and_leaves_the_old_certificate(place: Place) -> None:
    place.run("csr", "--key-type", "p256")
    place.certificate.write_bytes(b"old")
    weak = rsa.generate_private_key(65537, 1024)
    rows = [
        (place.issued(days=(-9, -1)).chain_pem, "expired"),
        (place.issued(days=(1, 9)).chain_pem, "not valid before"),
        (PKI.issue(*NAMES).chain_pem, "belongs to the key"),
        (PKI.issue(*NAMES[:2], key=place.key_of_file()).chain_pem, "is not for 2001:db8::1"),
        (PKI.issue(*NAMES, key=weak).chain_pem, "belongs to the key"),
        (place.issued().chain_pem[:-100], "half written"),
        (b"", "PEM, DER or PKCS#7"),
    ]
    for data, words in rows:
        assert words in place.refused("import", place.sent(data))
    replace(place.key, key_pem(weak))
    assert "RSA 1024" in place.refused("import", place.sent(PKI.issue(*NAMES, key=weak).chain_pem))
    assert place.certificate.read_bytes() == b"old"


def test_import_checks_against_the_names_of_the_request_where_nothing_else_names_any(place: Place) -> None:
    place.config.write_text("[tls]\ncertificate = 'node.pem'\nkey = 'node.key'\n")
    assert place.run("csr", "--key-type", "p256", "--name", NAME, "--name", "second.example.test") == 0
    only_one = PKI.issue(NAME, key=place.key_of_file())
    assert "is not for second.example.test" in place.refused("import", place.sent(only_one.chain_pem))
    assert place.run("import", place.sent(only_one.chain_pem), "--name", NAME) == 0


def test_import_with_another_key_installs_both_and_through_links(place: Place) -> None:
    place.run("self-signed", "--key-type", "p256")
    (place.folder / "real").mkdir()
    place.certificate.rename(place.folder / "real" / "node.pem")
    place.certificate.symlink_to("real/node.pem")
    made = new_key()
    replace(place.folder / "next.key", key_pem(made))
    issued = PKI.issue(*NAMES, key=made)
    assert place.run("import", place.sent(issued.chain_pem), "--key", place.folder / "next.key") == 0
    assert place.key_of_file().public_key() == made.public_key()
    assert place.key.stat().st_mode & 0o777 == 0o600
    assert place.certificate.is_symlink()
    assert (place.folder / "real" / "node.pem").read_bytes() == issued.chain_pem
    assert [path.name for path in place.folder.iterdir() if path.name.endswith(".new")] == []


def test_show_tells_what_matters_and_exits_3_near_the_end(place: Place) -> None:
    issued = PKI.issue(*NAMES, days=(-1, 20))
    path = place.sent(issued.chain_pem)
    assert place.run("show", path) == 0
    for words in (*NAMES, "CN=test issuing", "EC P-256", "days left"):
        assert words in place.out
    assert place.run("show", path, "--within", "19") == 0
    assert place.run("show", path, "--within", "21") == 3
    assert place.run("show", path, "--json") == 0
    facts = json.loads(place.out)
    assert facts["names"] == list(NAMES)
    assert 19 < facts["days_left"] < 20.1
    assert place.run("show", place.sent(PKI.issue(days=(-9, -1)).chain_pem)) == 3
    assert "expired 1.0 days ago" in place.out
    assert place.run("show", place.sent(PKI.issue(days=(2, 9)).chain_pem)) == 3
    assert "sent" in place.refused("show", place.sent(b"nonsense"))


def test_show_without_a_file_says_so(place: Place) -> None:
    assert place.run("show") == 1
    assert place.err == f"cacheserver: error: {place.certificate}: No such file or directory\n"
    place.config.write_text("")
    assert "tls.certificate" in place.refused("show")


def test_self_signed_makes_a_pair_for_a_lab_and_never_overwrites_unasked(place: Place) -> None:
    assert place.run("self-signed", "--key-type", "p256", "--days", "9") == 0
    before = place.certificate.read_bytes()
    assert place.run("show", "--within", "8") == 0
    assert place.run("show", "--within", "10") == 3
    assert "is there already" in place.refused("self-signed", "--key-type", "p256")
    place.certificate.unlink()
    assert "is there already" in place.refused("self-signed", "--key-type", "p256")
    assert place.run("self-signed", "--key-type", "p256", "--force") == 0
    assert place.certificate.read_bytes() != before


def test_one_file_for_both_is_refused(place: Place) -> None:
    assert "files of their own" in place.refused("self-signed", "--key", "x.pem", "--certificate", "x.pem")
    assert place.run("csr", "--key-type", "p256") == 0
    sent = place.sent(place.issued().chain_pem)
    assert "files of their own" in place.refused("import", sent, "--certificate", place.key)


@pytest.mark.parametrize("command", ["csr", "self-signed"])
def test_a_pair_that_another_command_writes_is_left_alone(
    place: Place, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing, "LOCK_S", 0.0)
    with folder_held(str(place.folder), within_s=1.0):
        assert "another command is changing it" in place.refused(command)
    assert not place.key.exists()
    assert place.run(command) == 0
