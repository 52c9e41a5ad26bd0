ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/cacheserver
COPY requirements.lock ./
RUN /opt/cacheserver/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY cacheserver ./cacheserver
RUN /opt/cacheserver/bin/pip install --no-cache-dir --no-deps .

FROM ${BASE}
RUN groupadd --system --gid 10001 cacheserver \
    && useradd --system --uid 10001 --gid cacheserver --home-dir /var/cache/cacheserver --shell /usr/sbin/nologin cacheserver \
    && install -d -m 0700 -o cacheserver -g cacheserver /var/cache/cacheserver
COPY --from=build /opt/cacheserver /opt/cacheserver
COPY config/cacheserver.toml /etc/cacheserver/cacheserver.toml
ENV PATH=/opt/cacheserver/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/var/cache
USER cacheserver
VOLUME /var/cache/cacheserver
# Publish it as port 80: -p 80:8080. The admin listener stays inside the container unless the file gives it a token.
EXPOSE 8080
STOPSIGNAL SIGTERM
# 401 is the answer of a node with an admin token to someone without it: alive.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "\
import sys, urllib.error, urllib.request\n\
try:\n\
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))\n\
    opener.open('http://127.0.0.1:8081/healthz', timeout=4)\n\
except urllib.error.HTTPError as exc:\n\
    sys.exit(exc.code != 401)\n\
except OSError:\n\
    sys.exit(1)\n"]
ENTRYPOINT ["cacheserver"]
CMD ["serve", "--config", "/etc/cacheserver/cacheserver.toml"]
