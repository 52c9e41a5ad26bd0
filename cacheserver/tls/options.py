"""Settings of the content listener's certificate."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class TlsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Certificate of the content listener's TLS addresses."""

    certificate: Annotated[str, Meta(description="PEM file with the certificate and its chain; empty: no TLS.")] = ""
    key: Annotated[
        str,
        Meta(description="PEM file with its private key; must not be readable by everyone nor writable by a group."),
    ] = ""
    names: Annotated[
        tuple[str, ...],
        Meta(description="Names and addresses by which clients ask; the certificate must hold them. Empty: any."),
    ] = ()
    check_s: Annotated[
        float, Meta(gt=0, le=3600, description="How often the files are looked at; replaced ones are taken up.")
    ] = 5.0
