# The Gateway with its stores in PostgreSQL, without a local model: `docker build -t opensoul:0.1.0 .`
# The root file system may be read-only; the container writes to /var/lib/opensoul and /tmp alone.
# Python agents and their packages go into an image of your own; docs/scaling.md shows one.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/opensoul
COPY requirements/server.txt /source/requirements/server.txt
RUN /opt/opensoul/bin/pip install --require-hashes --no-deps -r /source/requirements/server.txt
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
# The hash mode refuses a folder. What builds it is pinned and installed above, and not needed later.
RUN /opt/opensoul/bin/pip install --no-deps --no-build-isolation /source \
    && /opt/opensoul/bin/pip uninstall --yes setuptools wheel pip

FROM python:${PYTHON}-slim
RUN useradd --system --user-group --uid 10001 --home-dir /var/lib/opensoul \
        --shell /usr/sbin/nologin opensoul \
    && install --directory --owner opensoul --group opensoul --mode 0700 /var/lib/opensoul
COPY --from=build /opt/opensoul /opt/opensoul
ENV PATH=/opt/opensoul/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/opensoul \
    OPENSOUL_STATE_DIR=/var/lib/opensoul/state \
    OPENSOUL_CONFIG_PATH=/etc/opensoul/opensoul.json5 \
    OPENSOUL_GATEWAY_PORT=18789
USER 10001:10001
WORKDIR /var/lib/opensoul
EXPOSE 18789
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['OPENSOUL_GATEWAY_PORT']}/readyz\", timeout=4)"]
ENTRYPOINT ["opensoul"]
CMD ["gateway", "run", "--bind", "lan"]
