"""``cacheserver tls``: certificates for the content listener, from the request to the installed file.

Owns: these commands, and which files and names they work on: options win over the configuration. The work is
``cacheserver.tls``. Errors go up as ConfigError and OSError, which ``cli.main`` turns into one line and an exit code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cacheserver.cli.changing import changing
from cacheserver.cli.options import CONFIG, JSON
from cacheserver.cli.output import EXIT_FOUND, config_errors, say, say_json, tell
from cacheserver.core.errors import ConfigError
from cacheserver.logs.events import printable
from cacheserver.settings.load import Flags, load_settings
from cacheserver.tls import checks
from cacheserver.tls.chain import Chain, chain_for
from cacheserver.tls.facts import DAY_S, CertificateFacts, alternative_names, certificate_facts, utc_text
from cacheserver.tls.formats import any_certificates, private_key, read_bytes
from cacheserver.tls.install import CERTIFICATE_MODE, KEY_MODE, already_there, make_folder, write_file
from cacheserver.tls.issue import KEY_TYPES, ServerKey, key_pem, request_pem, self_signed_pem
from cacheserver.tls.names import certificate_name
from cacheserver.tls.options import TlsOptions

_CERTIFICATE = click.option("--certificate", metavar="FILE", help="Certificate file instead of tls.certificate.")
_KEY = click.option("--key", metavar="FILE", help="Key file instead of tls.key.")
_NAME = click.option(
    "--name", "names", multiple=True, metavar="NAME", help="DNS name or address by which clients ask; may be repeated."
)
_KEY_TYPE = click.option(
    "--key-type",
    type=click.Choice(list(KEY_TYPES)),
    metavar="TYPE",
    default="rsa2048",
    help=f"{', '.join(KEY_TYPES)}; rsa2048 without it.",
)
_FORCE = click.option("--force", is_flag=True, help="Replace files that are there.")


@click.group("tls")
def tls_group() -> None:
    """Certificates of the content listener: ask for one, install it, look at it."""


@tls_group.command("csr")
@CONFIG
@_KEY
@_NAME
@_KEY_TYPE
@click.option("--reuse-key", is_flag=True, help="Ask for a certificate for the key that is there.")
@_FORCE
def csr_command(
    config: str | None, key: str | None, names: tuple[str, ...], key_type: str, reuse_key: bool, force: bool
) -> None:
    """Make a private key (mode 0600) and print a certificate request for it.

    The request is kept beside the key as KEY.csr too, where import looks for the names. The key stays where it is. One
    that is there is not replaced without --force.
    """
    if reuse_key and force:
        raise click.UsageError("--reuse-key and --force contradict one another")
    options = _options(config, key=key)
    path = _required(options.key, "--key", "tls.key")
    wanted = _names(names, options, required=True)
    make_folder(path)
    with changing(path):
        made = _key(path) if reuse_key else _new_key(path, key_type, force=force)
        request = request_pem(made, wanted)
        write_file(f"{path}.csr", request, CERTIFICATE_MODE, replace=True)
    say(request.decode("ascii"), end="", lines=True)
    tell(f"key {path}; request {path}.csr for {', '.join(wanted)}")


@tls_group.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@CONFIG
@_CERTIFICATE
@click.option("--key", metavar="FILE", help="Key that the certificate is for; installed as tls.key if it is another.")
@_NAME
def import_command(
    files: tuple[str, ...], config: str | None, certificate: str | None, key: str | None, names: tuple[str, ...]
) -> None:
    """Install the certificate that an authority sent: PEM, DER or PKCS#7, the chain in any order, in several FILEs.

    Refused, with the reason: a certificate that does not belong to the key, lacks a name that was asked for, is out of
    time, or is weak. A running node takes it up by itself.
    """
    options = _options(config, certificate=certificate)
    target = _required(options.certificate, "--certificate", "tls.certificate")
    key_path = key or _required(options.key, "--key", "tls.key")
    found = _key(key_path)
    wanted = _names(names, options) or _requested(key_path, found)
    chain = _chain(files, found, wanted)
    _two_files(target, options.key or key_path)
    make_folder(target)
    with changing(target):  # or the key of one command would stand beside the certificate of another
        if options.key and os.path.realpath(options.key) != os.path.realpath(key_path):
            write_file(options.key, key_pem(found), KEY_MODE, replace=True)
        write_file(target, chain.pem(), CERTIFICATE_MODE, replace=True)
    _report(target, chain)


@tls_group.command("show")
@click.argument("file", required=False)
@CONFIG
@click.option("--within", type=float, metavar="DAYS", default=0.0, help="Exit 3 when fewer days are left, too.")
@JSON
def show_command(file: str | None, config: str | None, within: float, as_json: bool) -> int:
    """Print what the certificate in FILE, or the configured one, says; exit 3 when it has expired.

    Names, issuers, times, days left, kind of key, SHA-256 fingerprint.
    """
    path = file or _required(_options(config).certificate, "FILE", "tls.certificate")
    leaf, *chain = _certificates(path)
    try:
        facts = certificate_facts(leaf, chain)
    except ValueError as exc:
        raise ConfigError(f"cannot be parsed: {exc}", where=printable(path, 300)) from exc
    now_s = time.time()
    if as_json:
        say_json({"file": path, **facts.plain(now_s)})
    else:
        _show(path, facts, now_s)
    ended = now_s < facts.not_before_s or facts.days_left(now_s) <= max(0.0, within)
    return EXIT_FOUND if ended else 0


@tls_group.command("self-signed")
@CONFIG
@_CERTIFICATE
@_KEY
@_NAME
@_KEY_TYPE
@click.option("--days", type=click.IntRange(1, 825), metavar="DAYS", default=365, help="Days until it ends; 365.")
@_FORCE
def self_signed_command(
    config: str | None,
    certificate: str | None,
    key: str | None,
    names: tuple[str, ...],
    key_type: str,
    days: int,
    force: bool,
) -> None:
    """Make a key and a certificate that it has signed itself: for a lab, where each client is told to trust it."""
    options = _options(config, certificate=certificate, key=key)
    target = _required(options.certificate, "--certificate", "tls.certificate")
    path = _required(options.key, "--key", "tls.key")
    wanted = _names(names, options, required=True)
    _two_files(target, path)
    make_folder(target)
    with changing(target):
        if os.path.lexists(target) and not force:
            raise already_there(target)
        made = _new_key(path, key_type, force=force)
        pem = self_signed_pem(made, wanted, days=days, now_s=time.time())
        write_file(target, pem, CERTIFICATE_MODE, replace=force)
    _report(target, _chain((target,), made, wanted))


# -- files and names ----------------------------------------------------------------------------------------------


def _options(config: str | None, *, certificate: str | None = None, key: str | None = None) -> TlsOptions:
    """The configured ``[tls]`` with what the flags say over it."""
    configured = TlsOptions() if config is None else load_settings(config, Flags()).tls
    return TlsOptions(
        certificate=certificate or configured.certificate, key=key or configured.key, names=configured.names
    )


def _required(path: str, flag: str, setting: str) -> str:
    if not path:
        raise ConfigError(f"name a file, or give --config with {setting}", where=flag)
    return path


def _two_files(certificate: str, key: str) -> None:
    if os.path.realpath(certificate) == os.path.realpath(key):
        raise ConfigError("certificate and key need files of their own", key="tls.certificate")


def _names(names: Sequence[str], options: TlsOptions, *, required: bool = False) -> list[str]:
    """The names of the flags, else those of the settings, each once."""
    with config_errors("--name" if names else "", key="tls.names"):
        wanted = list(dict.fromkeys(certificate_name(name) for name in names or options.names))
    if required and not wanted:
        raise ConfigError("name at least one host or address of the node", where="--name", key="tls.names")
    return wanted


def _requested(key_path: str, key: ServerKey) -> list[str]:
    """The names in the request beside the key, if it is this key's."""
    try:
        request = x509.load_pem_x509_csr(read_bytes(f"{key_path}.csr"))
        if request.public_key() != key.public_key():
            return []
        return [certificate_name(name) for name in alternative_names(request.extensions)]
    except (OSError, ValueError):
        return []


def _key(path: str) -> ServerKey:
    with config_errors(printable(path, 300)):
        found = private_key(read_bytes(path))
        if (reason := checks.weak_key(found)) is not None:
            raise ValueError(f"too weak: {reason}")
    assert isinstance(found, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)  # what weak_key lets through
    return found


def _new_key(path: str, kind: str, *, force: bool) -> ServerKey:
    if os.path.lexists(path) and not force:
        raise ConfigError(
            "is there already; --reuse-key asks for it again, another --key leaves it alone, --force replaces it",
            where=printable(path, 300),
        )
    key = KEY_TYPES[kind]()
    write_file(path, key_pem(key), KEY_MODE, replace=force)
    return key


def _certificates(path: str) -> list[x509.Certificate]:
    with config_errors(printable(path, 300)):
        return any_certificates(read_bytes(path))


def _chain(paths: Sequence[str], key: ServerKey, names: Sequence[str]) -> Chain:
    certificates = [certificate for path in paths for certificate in _certificates(path)]
    with config_errors(printable(paths[0], 300)):
        return chain_for(key, certificates, names=names, now_s=time.time())


# -- lines ----------------------------------------------------------------------------------------------------------


def _report(path: str, chain: Chain) -> None:
    facts = chain.facts
    say(
        printable(
            f"{path}: {', '.join(facts.names)}; {facts.key_type}; until {utc_text(facts.not_after_s)} "
            f"({facts.days_left(time.time()):.0f} days); {len(facts.chain)} issuers sent along"
        )
    )
    for subject in chain.left_out:
        tell(f"left out: {subject} is no part of the chain")
    if not chain.complete:
        tell(f"the chain ends at {facts.chain[-1] if facts.chain else facts.subject}: clients must know its issuer")


def _show(path: str, facts: CertificateFacts, now_s: float) -> None:
    left = facts.days_left(now_s)
    state = f"{left:.1f} days left" if left > 0 else f"expired {-left:.1f} days ago"
    if now_s < facts.not_before_s:
        state = f"valid in {(facts.not_before_s - now_s) / DAY_S:.1f} days"
    rows = (
        ("certificate", path),
        ("subject", facts.subject),
        ("names", ", ".join(facts.names) or "none: no client accepts it"),
        ("issuer", facts.issuer),
        *(("sent along", subject) for subject in facts.chain),
        ("valid from", utc_text(facts.not_before_s)),
        ("valid until", f"{utc_text(facts.not_after_s)}, {state}"),
        ("key", facts.key_type),
        ("SHA-256", facts.fingerprint),
    )
    for name, value in rows:
        say(printable(f"{name:12} {value}"))
