# syntax=docker/dockerfile:1
# One image for the pipeline's components, for Dataflow's workers and for training.
#   docker build -t ser-pipeline .
#   docker build -t ser-pipeline-gpu --build-arg VARIANT=gpu .
# Vertex AI gives the containers their command; Dataflow starts the entrypoint, Beam's own.

ARG PYTHON_IMAGE=python:3.11-slim-trixie
ARG BEAM_IMAGE=apache/beam_python3.11_sdk:2.77.0

FROM ${BEAM_IMAGE} AS beam

FROM ${PYTHON_IMAGE} AS build
ARG VARIANT=cpu
WORKDIR /src
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_HTTP_TIMEOUT=180

# For the packages of the lock that bring no wheel.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*

COPY environment/bootstrap.txt environment/
RUN pip install --quiet --no-cache-dir --require-hashes --target /opt/tools -r environment/bootstrap.txt

COPY requirements.lock deploy/gpu.lock ./
RUN /opt/tools/bin/uv venv --quiet /opt/venv \
 && /opt/tools/bin/uv pip sync --quiet --python /opt/venv/bin/python --require-hashes requirements.lock \
 && case "$VARIANT" in \
      cpu) ;; \
      gpu) /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --no-deps --require-hashes -r gpu.lock ;; \
      *) echo "VARIANT is '$VARIANT'; it must be cpu or gpu" >&2; exit 1 ;; \
    esac

COPY pyproject.toml setup.py README.md LICENSE ./
COPY runner_local.py runner_vertex.py ./
COPY cli cli
COPY components components
COPY modules modules
COPY pipeline pipeline
COPY schema schema
COPY serving serving
RUN /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
ARG VARIANT=cpu
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ser-pipeline" \
      org.opencontainers.image.description="Speech-emotion pipeline: components, Dataflow workers, training (${VARIANT})" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=build /opt/venv /opt/venv
RUN useradd --create-home --uid 10001 ser

# TF_USE_LEGACY_KERAS: Transform and TFMA would otherwise switch child processes to Keras 2.
# RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT: Beam's boot would otherwise make an environment of its own, as root.
# GCS_READ_CACHE_BLOCK_SIZE_MB: TensorFlow would otherwise fill a buffer of 64 MiB for each recording that it reads.
ENV PATH=/opt/venv/bin:$PATH \
    TF_USE_LEGACY_KERAS=0 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    GCS_READ_CACHE_BLOCK_SIZE_MB=4 \
    PYTHONUNBUFFERED=1 \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1

USER ser
WORKDIR /home/ser
ENTRYPOINT ["/opt/apache/beam/boot"]
