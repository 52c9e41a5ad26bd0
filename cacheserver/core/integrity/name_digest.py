"""Digests that stand in the names of files: SHA-1 in Windows Update and WSUS paths.

Owns: the two name grammars and where each may be believed. Must not compute digests of content.
"""

from __future__ import annotations

import re
from typing import Final

from cacheserver.core.errors import MalformedRequest
from cacheserver.core.integrity.trust import Claim
from cacheserver.core.request.keys import content_name
from cacheserver.core.request.target import Target

_UPDATE_FILE: Final = re.compile(r".*_([0-9a-f]{40})\.[0-9a-z]{1,8}", re.IGNORECASE)
_WSUS_FILE: Final = re.compile(r"([0-9a-f]{40})\.[0-9a-z]{1,8}", re.IGNORECASE)


def claim_from_name(target: Target) -> Claim | None:
    """What the file name of ``target`` says of its content (raw SHA-1), or None where it says nothing.

    Only for services with ``digest_in_name``. A shipped one: ``…/msdownload/…/<name>_<40 hex>.<ext>``; an own one:
    ``…/Content/XX/<40 hex>.<ext>`` of WSUS, where XX repeats the last two digits.

    The claim counts as authentic although it came with a request: clients take the whole path out of signed update
    metadata, where the same SHA-1 is the file's ``Digest``, and the path is part of the cache key. Whoever asks by
    another name asks for another object, so bytes that fit the name are what everybody who uses that name wants, and
    none but those can be kept under it. SHA-1 serves here against a second preimage, which is out of reach; that its
    collisions can be made helps only who made both files.
    """
    if not target.service.digest_in_name:
        return None
    try:
        path = content_name(target).partition("?")[0]
    except MalformedRequest:
        return None
    digest = _wsus(path) if target.service.own else _windows_update(path)
    return None if digest is None else Claim(anchor="name", authentic=True, sha1=bytes.fromhex(digest))


def _windows_update(path: str) -> str | None:
    *folders, name = path.split("/")
    found = _UPDATE_FILE.fullmatch(name)
    return found[1] if found is not None and any(folder.lower() == "msdownload" for folder in folders) else None


def _wsus(path: str) -> str | None:
    *_, content, last_two, name = ("", "", *path.split("/"))
    found = _WSUS_FILE.fullmatch(name)
    if found is None or content.lower() != "content" or last_two.lower() != found[1][-2:].lower():
        return None
    return found[1]
