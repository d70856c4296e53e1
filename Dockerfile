# Two images from one file: `--target service` (the agent API) and `--target operator`.
#
# The base is an argument, so that it can be pinned by digest or come from elsewhere:
#   docker build --target service --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:… -t portside.dev/agent-service:0.1.0 .
# It needs Python 3.11 or later with venv and pip. The last stages take nothing of the build but a virtual environment.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements/build.txt requirements/
RUN python3 -m venv /build && /build/bin/pip install --quiet --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY operator operator
RUN /build/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir /wheels .

# The environments have no pip of their own. Their modules are compiled here, as the root file system is read-only later.
FROM ${PYTHON_IMAGE} AS service-environment
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/portside
COPY requirements/service.txt /requirements.txt
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --require-hashes --requirement /requirements.txt
COPY --from=build /wheels /wheels
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --no-deps --no-index /wheels/*.whl

FROM ${PYTHON_IMAGE} AS operator-environment
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/portside
COPY requirements/operator.txt /requirements.txt
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --require-hashes --requirement /requirements.txt
COPY --from=build /wheels /wheels
RUN python3 -m pip --python /opt/portside/bin/python install --quiet --no-deps --no-index /wheels/*.whl

FROM ${PYTHON_IMAGE} AS operator
COPY --from=operator-environment /opt/portside /opt/portside
ENV PATH=/opt/portside/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="Portside operator" \
      org.opencontainers.image.description="Turns AgentDeployments into hardened, autoscaled, observable objects" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["agent-operator"]
CMD ["run"]

FROM ${PYTHON_IMAGE} AS service
COPY --from=service-environment /opt/portside /opt/portside
ENV PATH=/opt/portside/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="Portside agent API" \
      org.opencontainers.image.description="An AI agent behind an HTTP API, on Anthropic models" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + (os.environ.get('PORT') or os.environ.get('API_PORT') or '8000') + '/health/live', timeout=4)"]
ENTRYPOINT ["agent-service"]
CMD ["serve"]
