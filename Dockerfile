# syntax=docker/dockerfile:1
# Targets: `api` (no torch; also migrate and sweeper) and `worker` (torch, OpenVINO, FAISS).
# Every package is pinned by version and SHA-256 (deploy/requirements-*.txt, renewed by deploy/lock).
FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN PIP_CONSTRAINT=/src/constraints.txt pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm AS runtime
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/siftline/bin:$PATH \
    SIFTLINE_DATA_DIR=/data \
    SIFTLINE_LOG_FORMAT=json \
    MPLCONFIGDIR=/tmp/matplotlib
# A fixed uid, so that the volume's files belong to the same user in every image.
RUN groupadd --gid 10001 siftline \
    && useradd --uid 10001 --gid siftline --no-create-home --home-dir /data --shell /usr/sbin/nologin siftline \
    && install -d -o siftline -g siftline /data \
    && python -m venv /opt/siftline
# Dependencies that both targets share are one layer.
COPY deploy/requirements-api.txt /opt/siftline/
RUN pip install --no-cache-dir --require-hashes -r /opt/siftline/requirements-api.txt
WORKDIR /data
VOLUME /data

FROM runtime AS worker
COPY deploy/requirements-worker.txt /opt/siftline/
RUN pip install --no-cache-dir --require-hashes -r /opt/siftline/requirements-worker.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "celery --app siftline_workers.celery_app inspect ping --timeout 10 --destination celery@$(hostname)"]
CMD ["siftline", "worker"]

FROM runtime AS api
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
ENV SIFTLINE_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('SIFTLINE_PORT', '8000')}/healthz\", timeout=4)"]
CMD ["siftline", "api"]
