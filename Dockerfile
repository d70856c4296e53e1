# Two images from one file: `--target service` (the agent API, also the default) and `--target operator`.
#
# The base is pinned by the digest of its index, which is the same for every architecture; docs/contributing/images.md has how to move
# it. It is an argument, so that it can come from elsewhere: docker build --build-arg PYTHON_IMAGE=… .
# It needs Python 3.11 or later with venv and pip. Where packages come from a mirror, say so with
# `--build-arg PIP_INDEX_URL=…` (PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST); the images and their history do not hold it.
# VERSION, REVISION and SOURCE (a commit, and where it is) go into the labels of a release.
ARG PYTHON_IMAGE=python:3.13.15-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

# An environment without a pip of its own: the base's installs into it.
FROM ${PYTHON_IMAGE} AS environment
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
# As ENV the stages built on this one have them too. pip takes an empty one for not set.
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} PIP_TRUSTED_HOST=${PIP_TRUSTED_HOST} \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/portside

# The root file system is read-only later, so that modules are compiled here; by hash and unchecked, so that no copying
# of layers, with new times on the files, makes Python take them for stale (PEP 552).
FROM environment AS service-environment
COPY requirements/service.txt /requirements.txt
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --no-compile \
        --require-hashes --no-deps -r /requirements.txt && \
    /opt/portside/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/portside/lib

FROM environment AS operator-environment
COPY requirements/operator.txt /requirements.txt
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --no-compile \
        --require-hashes --no-deps -r /requirements.txt && \
    /opt/portside/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/portside/lib

# Our own files apart, under /project, as they will lie over an environment.
FROM environment AS project
WORKDIR /source
COPY requirements/build.txt requirements/
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --no-compile \
        --require-hashes --no-deps -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY operator operator
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --no-compile \
        --no-index --no-build-isolation --no-deps --no-warn-script-location --root /project . && \
    /opt/portside/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /project/opt/portside/lib

# Docker's Python images come without compiled modules of the standard library: each start would compile them in memory
# (0.8 s of CPU for the service), and each health check too. The health checks go past any proxy that is set for the
# model API.
FROM ${PYTHON_IMAGE} AS runtime
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(site-packages|dist-packages|tests?)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PATH=/opt/portside/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
STOPSIGNAL SIGTERM

FROM runtime AS operator
COPY --from=operator-environment /opt/portside /opt/portside
ARG PYTHON_IMAGE
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
LABEL org.opencontainers.image.title="Portside operator" \
      org.opencontainers.image.description="Turns AgentDeployments into hardened, autoscaled, observable objects" \
      org.opencontainers.image.licenses="Apache-2.0"
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://localhost:' + (os.environ.get('AGENT_OPERATOR_HEALTH_PORT') or '8080') + '/healthz', timeout=4)"]
ENTRYPOINT ["agent-operator"]
CMD ["run"]
COPY --from=project /project /

FROM runtime AS service
COPY --from=service-environment /opt/portside /opt/portside
ARG PYTHON_IMAGE
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
LABEL org.opencontainers.image.title="Portside agent API" \
      org.opencontainers.image.description="An AI agent behind an HTTP API, on Anthropic models" \
      org.opencontainers.image.licenses="Apache-2.0"
EXPOSE 8000
# Where the state is kept with no Redis configured: any user can write there, and our pods have a volume of their own at
# /tmp. Mount one here to keep the state longer than the container.
ENV STATE_DIR=/tmp/portside
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://localhost:' + (os.environ.get('API_PORT') or os.environ.get('PORT') or '8000') + '/health/live', timeout=4)"]
ENTRYPOINT ["agent-service"]
CMD ["serve"]
# Last, so that a change of the source makes one small layer anew and nothing else.
COPY --from=project /project /
