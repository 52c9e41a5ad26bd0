"""Taking secrets out of logs and other text before it leaves the machine.

Owns: what may stay. Nothing is recognised as a secret by its look; a part stays where its structure says what it is: a
member of a JSON object, a URL without its secret parts, a word, a number, an address. What a name calls a secret goes
with all that follows it on its line, and every known secret goes wherever it stands. Rather takes out too much.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

from cacheserver.core.shown import REMOVED, bare_url, without_secrets

_NAMES: Final = (
    r"token|passw|passphrase|passcode|pwd|secret|credential|private|cookie|session|signature|shared[-_]?access|bearer|jwt"
    r"|(?:api|access|account|auth|app|client|encryption|host|master|pass|service|shared|signing|storage|subscription)"
    r"[-_]?key"
)
_EXACT: Final = r"auth|authorization|pin|sig|sas|pass|otp"
_SECRET_KEY: Final = re.compile(rf"(?i){_NAMES}|(?:^|[-_.])(?:{_EXACT})$")
_LINE_OF_SECRET: Final = re.compile(
    rf"""(?i)(?<![\w-])["']?(?:[\w.-]{{0,40}}?(?:{_NAMES})[\w.-]{{0,40}}|(?:[\w.-]{{0,40}}[-_.])?(?:{_EXACT}))"""
    r"""["']?\s{0,20}[:=]\s{0,20}(?=\S)"""
)
_SAID: Final = re.compile(
    r"(?i)\b(?:bearer|ntlm|hawk|api[-_ ]?key|token|password|passwd|passphrase|secret|credentials?)[ \t]+(?=[^\s:=])"
)
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*(?:KEY|CERTIFICATE)[A-Z0-9 ]*-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.S
)
_RUN: Final = re.compile(r"""[^\s"'<>(){}|,\x00]+""")
_ATOM: Final = re.compile(r"[^\W_]+")
_PLAIN: Final = re.compile(
    r"[^\W\d_A-Z]{1,20}|[A-Z]{1,20}|[A-Z]?[a-z]{1,20}(?:[A-Z][a-z]{2,20}){0,4}|[A-Z]{2,5}[a-z]{2,20}"  # words
    r"|[0-9]{1,20}|[0-9]{1,12}[A-Za-z]{1,3}|[0-9]{8}T[0-9]{6}Z|[0-9]{2}T[0-9]{2}"  # numbers, units, times
    r"|[A-Za-z]{1,4}[0-9]{1,4}|kb[0-9]{6,7}|windows[0-9]{1,2}|python3|[0-9a-f]{1,4}"  # sda1, sha256; parts of IPv6
)
_NAME_OF_CONTENT: Final = re.compile(
    r"[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
)
_DIGEST_KEYS: Final = frozenset(
    {"object", "object_id", "fingerprint_sha256", "kept", "hash_of_hashes", "sha256", "expected", "got", "node_id"}
)
_DIGEST: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[A-Za-z0-9+/]{43}=")
_KNOWN: Final = "\0"


def redact_text(text: str, secrets: Collection[str] = ()) -> str:
    """``text``, which may be anything, without secrets; ``secrets`` are values that go wherever they stand.

    A line that is a JSON object or array stays one; of other lines only words, numbers and places stay.
    """
    text = _PEM.sub(_KNOWN, text.replace(_KNOWN, ""))
    lines = [_line(line, secrets) for line in text.split("\n")]
    return "\n".join(lines).replace(_KNOWN, REMOVED)


def redact_own(text: str, secrets: Collection[str] = ()) -> str:
    """Text that this program has put together, whose parts are none but URLs and what ``secrets`` names."""
    return without_secrets(_without_known(text.replace(_KNOWN, ""), secrets)).replace(_KNOWN, REMOVED)


def redact_json(text: str, secrets: Collection[str] = ()) -> str:
    """A JSON document of this program; ``redact_text`` of what is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return redact_text(text, secrets)
    return json.dumps(_own_tree(value, secrets), indent=2).replace(r"\u0000", REMOVED)


def is_secret_key(key: str) -> bool:
    """Whether a name says that its value is a secret."""
    return _SECRET_KEY.search(key) is not None


# -- trees ------------------------------------------------------------------------------------------------------------


def _tree(value: Any, secrets: Collection[str], key: str = "") -> Any:
    """JSON of any origin."""
    if value in (None, "") or isinstance(value, bool):
        return value
    if is_secret_key(key):
        return _KNOWN
    if isinstance(value, dict):
        return {_words(str(name), secrets): _tree(member, secrets, str(name)) for name, member in value.items()}
    if isinstance(value, list):
        return [_tree(member, secrets, key) for member in value]
    if not isinstance(value, str):
        return value
    if key in _DIGEST_KEYS and _DIGEST.fullmatch(value):
        return _without_known(value, secrets)
    return "\n".join(_words(line, secrets) for line in value.split("\n"))


def _own_tree(value: Any, secrets: Collection[str]) -> Any:
    """JSON of this program."""
    if isinstance(value, dict):
        return {
            str(name): _KNOWN if is_secret_key(str(name)) and isinstance(member, str) else _own_tree(member, secrets)
            for name, member in value.items()
        }
    if isinstance(value, list):
        return [_own_tree(member, secrets) for member in value]
    if not isinstance(value, str):
        return value
    known = without_secrets(_without_known(value, secrets))
    return _path(known) if known.startswith("/") else known


# -- lines ------------------------------------------------------------------------------------------------------------


def _line(line: str, secrets: Collection[str]) -> str:
    if line.lstrip()[:1] in ("{", "["):
        try:
            tree = _tree(json.loads(line, strict=False), secrets)
        except (ValueError, RecursionError):
            pass
        else:
            return json.dumps(tree, separators=(",", ":")).replace(r"\u0000", _KNOWN)
    return _words(line, secrets)


def _words(line: str, secrets: Collection[str]) -> str:
    """Words, numbers and places of a line, up to a name of a secret."""
    line = _without_known(line, secrets)
    rest = ""
    for name in (_LINE_OF_SECRET, _SAID):
        if (found := name.search(line)) is not None:
            line, rest = line[: found.end()], _KNOWN
    return _RUN.sub(lambda run: _run(run[0]), line) + rest


def _run(text: str) -> str:
    if "://" in text:
        return _place(text)
    path, mark, query = text.partition("?")
    if "@" in path or ("&" in path and "=" in path):
        return _KNOWN
    if query:
        return f"{_path(path)}{mark}{_KNOWN}"
    if "/" in text:
        return _path(text)
    return text if all(_PLAIN.fullmatch(atom) for atom in _ATOM.findall(text)) else _KNOWN


def _place(url: str) -> str:
    scheme, _, rest = bare_url(url).replace(REMOVED, _KNOWN).partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority}{_path(slash + path)}"


def _path(path: str) -> str:
    """A path of a file or URL; what follows a segment that names a secret is one."""
    kept: list[str] = []
    for segment in path.split("/"):
        named = bool(kept) and is_secret_key(kept[-1])
        kept.append(_KNOWN if segment and (named or not _is_plain_segment(segment)) else segment)
    return "/".join(kept)


def _is_plain_segment(segment: str) -> bool:
    """Whether it is made of words and numbers, and names of contents as Delivery Optimization has them."""
    rest = _NAME_OF_CONTENT.sub(" ", segment)
    return all(_PLAIN.fullmatch(atom) for atom in _ATOM.findall(rest.replace(_KNOWN, " ")))


def _without_known(text: str, secrets: Collection[str]) -> str:
    for form in sorted(_forms(secrets), key=len, reverse=True):
        if len(form) >= 6:
            text = text.replace(form, _KNOWN)
        elif form in text:  # short ones are parts of words
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", _KNOWN, text)
    return text


def _forms(secrets: Collection[str]) -> Iterator[str]:
    """The secrets as they are, and as JSON and URLs write them."""
    for secret in filter(None, secrets):
        yield from {
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            quote(secret, safe=""),
            quote_plus(secret),
        }
