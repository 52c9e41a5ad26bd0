# A node in an image: docker build -t cacheserver . ; docs/install.md says how to run it.
# BASE needs Python 3.11 or later with its venv module. Packages come from the index, or without a network from wheels/
# (make wheels) with --build-arg PIP_NO_INDEX=1; either way by the digests of the lock files. A tag may lead to another
# image tomorrow: name the base by its digest, --build-arg BASE=python:3.12-slim-bookworm@sha256:DIGEST.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG PIP_NO_INDEX
WORKDIR /src
COPY requirements.lock requirements-build.lock wheels* wheels/
RUN python3 -m venv /tools \
    && python3 -m venv --without-pip /opt/cacheserver \
    && /tools/bin/pip install --no-cache-dir --find-links wheels --require-hashes -r wheels/requirements-build.lock \
    && /tools/bin/pip --python /opt/cacheserver/bin/python3 install --no-cache-dir --find-links wheels \
        --require-hashes -r wheels/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY cacheserver ./cacheserver
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /tools/bin/pip --python /opt/cacheserver/bin/python3 install --no-cache-dir --no-deps --no-index dist/*.whl

FROM ${BASE}
RUN groupadd --system --gid 10001 cacheserver \
    && useradd --system --uid 10001 --gid cacheserver --home-dir /var/cache/cacheserver \
        --shell /usr/sbin/nologin cacheserver \
    && install -d -m 0700 -o cacheserver -g cacheserver /var/cache/cacheserver
COPY --from=build /opt/cacheserver /opt/cacheserver
COPY config/cacheserver.toml /etc/cacheserver/cacheserver.toml
ENV PATH=/opt/cacheserver/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/var/cache
USER 10001:10001
VOLUME /var/cache/cacheserver
# Publish it as port 80: -p 80:8080. The admin listener stays inside the container unless the file gives it a token.
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["cacheserver", "health", "--config", "/etc/cacheserver/cacheserver.toml"]
ENTRYPOINT ["cacheserver"]
CMD ["serve", "--config", "/etc/cacheserver/cacheserver.toml"]
