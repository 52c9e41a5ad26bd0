"""nginx twice: files alone as the practical limit of a hit, and a cache in slices as such caches are deployed.

Owns: their configurations, each for loopback and a directory of its own. Must not measure.
"""

from __future__ import annotations

from bench import process
from bench.lab import AUTHORITY, Lab
from bench.servers import SLICE, STATIC, Kind, Running, find_program, missing_program, program_version

_NGINX = """\
daemon off;
user {user};
worker_processes 1;
pid {dir}/pid;
error_log {dir}/error.log warn;
events {{ worker_connections 12288; }}
http {{
    types {{ }}
    default_type application/octet-stream;
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300;
    keepalive_requests 1000000000;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
{http}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{tls_port} ssl backlog=4096;
        server_name {authority};
{server}
    }}
}}
"""

_STATIC = """\
        root {docroot};
        add_header Cache-Control "public, max-age=604800";
"""

# What the lancache project deploys: 1 MiB slices, thread pool, one fetch per slice, its own lifetimes.
_SLICE_HTTP = """\
    aio threads;
    proxy_cache_path {dir}/cache levels=2:2 keys_zone=generic:64m inactive=3650d max_size={limit}
        loader_files=1000 loader_sleep=50ms loader_threshold=300ms use_temp_path=off;
"""
_SLICE_SERVER = """\
        location / {{
            slice 1m;
            proxy_cache generic;
            proxy_ignore_headers Expires Cache-Control;
            proxy_cache_valid 200 206 3650d;
            proxy_cache_valid 301 302 0;
            proxy_set_header Range $slice_range;
            proxy_cache_lock on;
            proxy_cache_lock_age 2m;
            proxy_cache_lock_timeout 1h;
            proxy_cache_use_stale error timeout invalid_header updating http_500 http_502 http_503 http_504;
            proxy_cache_revalidate on;
            proxy_max_temp_file_size 40960m;
            proxy_cache_key $host$uri$slice_range;
            proxy_http_version 1.1;
            proxy_redirect off;
            proxy_ignore_client_abort on;
            proxy_set_header Host $host;
            proxy_pass http://127.0.0.1:{origin_port};
        }}
"""


def _start_nginx(lab: Lab, name: str, core: int, http: str, server: str, *, origin_port: int = 0) -> Running:
    directory = lab.directory(name)
    port, tls_port = process.free_port(), process.free_port()
    values = {"dir": directory, "docroot": lab.docroot, "origin_port": origin_port, "limit": lab.store_bytes}
    config = directory / "nginx.conf"
    config.write_text(
        _NGINX.format(
            dir=directory,
            user="root" if directory.stat().st_uid == 0 else "nobody",
            port=port,
            tls_port=tls_port,
            authority=AUTHORITY,
            certificate=lab.certificate,
            key=lab.private_key,
            http=http.format(**values),
            server=server.format(**values),
        )
    )
    log = directory / "log"
    program = find_program("nginx") or "nginx"
    popen = lab.spawn([program, "-p", directory, "-e", log, "-c", config], log=log, core=core)
    process.wait_for_port(port, popen, log)
    cache = directory / "cache"
    return Running(name, port, popen, log, tls_port=tls_port, store=cache if cache.is_dir() else None)


def start_file_origin(lab: Lab) -> Running:
    """nginx over the docroot on the client's core: the origin from which caches are filled at full speed."""
    return _start_nginx(lab, "file-origin", lab.client_core, "", _STATIC)


def _start_static(lab: Lab, _origin_port: int) -> Running:
    return _start_nginx(lab, STATIC, lab.server_core, "", _STATIC)


def _start_slice(lab: Lab, origin_port: int) -> Running:
    return _start_nginx(lab, SLICE, lab.server_core, _SLICE_HTTP, _SLICE_SERVER, origin_port=origin_port)


def _version() -> str:
    return program_version("nginx", "-v")


NGINX_STATIC = Kind(
    STATIC,
    _start_static,
    missing_program("nginx"),
    _version,
    notes="files, sendfile, no thread pool: the practical limit",
    caches=False,
)
NGINX_SLICE = Kind(
    SLICE,
    _start_slice,
    missing_program("nginx"),
    _version,
    notes="proxy_cache with 1 MiB slices and aio threads, as lancache deploys it",
)
