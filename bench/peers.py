"""Varnish and Apache Traffic Server: configurations for a loopback laboratory, and the list of all kinds of server.

Must not measure. Both keep everything in a directory of the laboratory; no installed service is started or changed.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from bench import process
from bench.lab import AUTHORITY, Lab
from bench.nginx import NGINX_SLICE, NGINX_STATIC
from bench.node import node_kind
from bench.servers import Kind, Running, find_program, missing_program, program_version

VARNISH_STORE = "malloc,4G"
ATS_STORE_BYTES = 4 << 30

_VCL = """\
vcl 4.1;
backend default {{
    .host = "127.0.0.1";
    .port = "{origin_port}";
    .max_connections = 256;
}}
"""


def _start_varnish(lab: Lab, origin_port: int) -> Running:
    directory = lab.directory("varnish")
    (directory / "default.vcl").write_text(_VCL.format(origin_port=origin_port))
    port = process.free_port()
    log = directory / "log"
    argv: list[str | Path] = [find_program("varnishd") or "varnishd", "-F", "-j", "none", "-n", directory / "run"]
    argv += ["-a", f"127.0.0.1:{port}", "-f", directory / "default.vcl", "-s", VARNISH_STORE]
    argv += ["-T", "none", "-p", "thread_pools=1", "-p", "thread_pool_min=50", "-p", "timeout_idle=300"]
    popen = lab.spawn(argv, log=log, core=lab.server_core)
    process.wait_for_port(port, popen, log)
    return Running("varnish", port, popen, log)


_ATS_RECORDS = """\
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.http.server_ports STRING {port}:ipv4:ip-in=127.0.0.1
CONFIG proxy.config.http.cache.required_headers INT 0
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 300
CONFIG proxy.config.cache.enable_read_while_writer INT 1
CONFIG proxy.config.http.background_fill_active_timeout INT 0
CONFIG proxy.config.http.background_fill_completed_threshold FLOAT 0.0
CONFIG proxy.config.http.cache.max_open_read_retries INT 50
CONFIG proxy.config.http.cache.open_read_retry_time INT 10
CONFIG proxy.config.cache.ram_cache.size INT 2147483648
CONFIG proxy.config.cache.ram_cache_cutoff INT 209715200
CONFIG proxy.config.cache.max_doc_size INT 0
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.url_remap.pristine_host_hdr INT 1
CONFIG proxy.config.reverse_proxy.enabled INT 1
CONFIG proxy.config.admin.user_id STRING {user}
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.diags.debug.enabled INT 0
"""

_ATS_LAYOUT = """\
prefix: {dir}
exec_prefix: {dir}
bindir: /usr/bin
sbindir: /usr/sbin
sysconfdir: {dir}/etc
datadir: {dir}/cache
includedir: /usr/include
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: {dir}/var
runtimedir: {dir}/run
logdir: {dir}/logs
mandir: /usr/share/man
infodir: /usr/share/info
cachedir: {dir}/cache
"""


def _unprivileged_user() -> str:
    """Who the server runs as: it refuses to be root, so root hands it to a user that owns nothing."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("trafficserver", "nobody") if name in known)


def _start_ats(lab: Lab, origin_port: int) -> Running:
    directory = lab.directory("trafficserver")
    for name in ("etc", "cache", "var", "run", "logs"):
        (directory / name).mkdir()
    port = process.free_port()
    user = _unprivileged_user()
    etc = directory / "etc"
    (etc / "records.config").write_text(_ATS_RECORDS.format(port=port, user=user))
    (etc / "remap.config").write_text(f"map http://{AUTHORITY}/ http://127.0.0.1:{origin_port}/\n")
    (etc / "storage.config").write_text(f"{directory}/cache {ATS_STORE_BYTES}\n")
    (etc / "ip_allow.yaml").write_text(
        "ip_allow:\n  - {apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL}\n"
        "  - {apply: out, ip_addrs: 0/0, action: allow, methods: ALL}\n"
    )
    for name in ("plugin.config", "parent.config", "cache.config", "volume.config", "hosting.config"):
        (etc / name).write_text("")
    (directory / "runroot.yaml").write_text(_ATS_LAYOUT.format(dir=directory))
    if os.geteuid() == 0:
        lab.work.chmod(0o711)
        for member in (directory, *directory.rglob("*")):
            shutil.chown(member, user)
    log = directory / "log"
    program = find_program("traffic_server") or "traffic_server"
    popen = lab.spawn(
        [program, f"--run-root={directory}"], log=log, core=lab.server_core, env={"TS_RUNROOT": str(directory)}
    )
    process.wait_for_port(port, popen, log)
    return Running("trafficserver", port, popen, log)


VARNISH = Kind(
    "varnish",
    _start_varnish,
    missing_program("varnishd"),
    lambda: program_version("varnishd", "-V"),
    notes=f"whole objects in memory ({VARNISH_STORE})",
)
TRAFFIC_SERVER = Kind(
    "trafficserver",
    _start_ats,
    missing_program("traffic_server"),
    lambda: program_version("traffic_server", "--version"),
    notes="raw cache file plus 2 GiB RAM cache, one event thread",
)

ALL_KINDS = (node_kind(), NGINX_STATIC, NGINX_SLICE, VARNISH, TRAFFIC_SERVER)


def choose(names: list[str] | None) -> tuple[list[Kind], dict[str, str]]:
    """The kinds to run (all by default) and, by name, why others cannot; ValueError for an unknown name."""
    known = {kind.name: kind for kind in ALL_KINDS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"unknown server {unknown[0]!r}; known: {', '.join(known)}")
    wanted = [known[name] for name in names] if names else list(ALL_KINDS)
    missing = {kind.name: reason for kind in wanted if (reason := kind.why_missing()) is not None}
    return [kind for kind in wanted if kind.name not in missing], missing
