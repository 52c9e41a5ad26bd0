"""Settings of trust: which anchors are asked, where, and for how long their answers are kept."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class TrustOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is believed about contents: signed catalogues, names, digest fields, services over TLS."""

    catalogues: Annotated[
        tuple[str, ...], Meta(description="Signed catalogue files (cacheserver catalogue); read again on SIGHUP.")
    ] = ()
    catalogue_keys: Annotated[
        tuple[str, ...],
        Meta(description="Ed25519 public keys in base64; each catalogue must be signed by one of them."),
    ] = ()
    names: Annotated[
        bool, Meta(description="Use digests in file names where the service has digest_in_name (Windows Update).")
    ] = True
    digest_fields: Annotated[
        bool, Meta(description="Use Repr-Digest, Content-Digest and Content-MD5; anchored only over https.")
    ] = True
    deadline_s: Annotated[float, Meta(gt=0, le=8, description="Longest wait for one answer of a trust service.")] = 3.0
    answer_s: Annotated[
        float, Meta(ge=0, le=604_800, description="Seconds for which an answer of a trust service is kept.")
    ] = 3600.0
    failure_s: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds before a trust service that failed is asked again.")
    ] = 30.0
    ca_file: Annotated[
        str, Meta(description="PEM bundle trusted for trust services instead of the system's; empty: the system's.")
    ] = ""
    content_policy: Annotated[
        bool, Meta(description="Ask the Delivery Optimization content policy service for hashes of hashes.")
    ] = False
    content_policy_url: Annotated[str, Meta(description="Its base, https://HOST or https://HOST:PORT.")] = (
        "https://cp501.prod.do.dsp.mp.microsoft.com"
    )
    content_policy_path: Annotated[
        str,
        Meta(description="Path template: {content_id} is the GUID in the content's path, {url} its URL without query."),
    ] = "/content/{content_id}/contentpolicy?altCatalogId={url}"
    content_policy_keyvalue: Annotated[
        str,
        Meta(
            description="URL of the KeyValue service, which names that path in ContentPolicy2_EndpointFullUri "
            "(probably https://kv501.prod.do.dsp.mp.microsoft.com/all); empty or mute: content_policy_path."
        ),
    ] = ""
    content_policy_hash_field: Annotated[
        str, Meta(min_length=1, description="Member of the answer with the hash of hashes in base64; dots go deeper.")
    ] = "HashOfHashes"
    content_policy_length_field: Annotated[
        str, Meta(description="Member of the answer with the content's length; empty: none.")
    ] = ""
    content_policy_services: Annotated[
        tuple[str, ...], Meta(description="Services whose contents it is asked about; no others leave the site.")
    ] = ("windows-update", "edge")
    content_policy_paths: Annotated[
        tuple[str, ...], Meta(description="Globs over the paths it is asked about; * matches / too.")
    ] = ("/filestreamingservice/files/????????-????-????-????-????????????",)
    edge_cdp: Annotated[bool, Meta(description="Ask the Edge update API for lengths and digests of Edge's files.")] = (
        False
    )
    edge_cdp_url: Annotated[str, Meta(description="Its base, https://HOST or https://HOST:PORT.")] = (
        "https://msedge.api.cdp.microsoft.com"
    )
    edge_cdp_path: Annotated[
        str, Meta(description="Path template; {product} and {version} come out of edge_cdp_pattern.")
    ] = (
        "/api/v2/contents/Browser/namespaces/Default/names/{product}/versions/{version}/files"
        "?action=GenerateDownloadInfo"
    )
    edge_cdp_pattern: Annotated[
        str,
        Meta(description="Regular expression over the whole path, with groups product and version; others: not asked."),
    ] = r"/(?:[^/]+/)*(?P<product>msedge-[a-z0-9-]+)/(?P<version>[0-9]+(?:\.[0-9]+){3})/.*"
    edge_cdp_services: Annotated[tuple[str, ...], Meta(description="Services whose contents it is asked about.")] = (
        "edge",
    )
