# The images of the pipeline, a stage each. They share one environment, which is installed once.
#   docker build --target pipeline -t ser-pipeline .          components, and training on CPUs
#   docker build --target gpu      -t ser-pipeline-gpu .      training and tuning on GPUs
#   docker build --target worker   -t ser-pipeline-worker .   Dataflow's workers
#   docker build --target page     -t ser-page .              the web page
#   docker build --target airflow  -t ser-airflow .           Airflow, which runs the pipeline in its container
# Vertex AI gives its containers their command; Dataflow starts the worker's entrypoint, Beam's own.
# Builders without BuildKit build every stage up to the target: the stages are in the order of what they need.

# `make digests` renews them.
ARG PYTHON_IMAGE=python:3.11-slim-trixie@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51
ARG BEAM_IMAGE=apache/beam_python3.11_sdk:2.77.0

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_HTTP_TIMEOUT=180

# For the packages of the lock that have no wheel.
# hadolint ignore=DL3008 # Debian's archive removes a version as soon as there is a newer one: a pin breaks the build
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*

COPY environment/bootstrap.txt environment/
RUN pip install --quiet --no-cache-dir --require-hashes --target /opt/tools -r environment/bootstrap.txt

COPY requirements.lock ./
RUN /opt/tools/bin/uv venv --quiet /opt/venv \
 && /opt/tools/bin/uv pip sync --quiet --python /opt/venv/bin/python --require-hashes requirements.lock

# What .dockerignore lets through.
COPY . ./
RUN /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --no-deps --no-build-isolation .

# The speech encoder of the default model.
ARG ENCODER=whisper-tiny.en
RUN SER_ENCODERS=/opt/encoders /opt/venv/bin/ser encoder fetch "${ENCODER}"

FROM ${PYTHON_IMAGE} AS environment
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/encoders /opt/encoders
RUN useradd --create-home --uid 10001 ser
# TF_USE_LEGACY_KERAS: Transform and TFMA would otherwise switch child processes to Keras 2.
# /usr/local/nvidia: where Vertex AI mounts the driver; nothing else there names it. Without a GPU the folders are absent.
ENV PATH=/opt/venv/bin:/usr/local/nvidia/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib \
    TF_USE_LEGACY_KERAS=0 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    GCS_READ_CACHE_BLOCK_SIZE_MB=4 \
    SER_ENCODERS=/opt/encoders \
    PYTHONUNBUFFERED=1
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ser-pipeline" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"

FROM environment AS pipeline
# The user ser, by number, as Kubernetes wants it to know that it is not root.
USER 10001
WORKDIR /home/ser
COPY configs/vertex.yaml configs/vertex.yaml
# Fills numba's cache: processes that fill it at the same time read half-written code, and crash.
RUN python -c 'import librosa; librosa.yin, librosa.effects.time_stretch, librosa.util.localmin'

FROM environment AS gpu
COPY deploy/gpu.lock /tmp/
RUN pip install --quiet --no-cache-dir --no-deps --require-hashes -r /tmp/gpu.lock
USER 10001
WORKDIR /home/ser
RUN python -c 'import librosa; librosa.yin, librosa.effects.time_stretch, librosa.util.localmin'

FROM ${BEAM_IMAGE} AS beam

FROM environment AS worker
COPY --from=beam /opt/apache/beam /opt/apache/beam
# Beam's boot would otherwise make an environment of its own.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
RUN python -c 'import librosa; librosa.yin, librosa.effects.time_stretch, librosa.util.localmin'
# Root: Dataflow mounts folders of root's, /var/opt/google among them, and boot writes there.
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM pipeline AS page
# Streamlit, numba and matplotlib write caches; the root may be read-only.
ENV HOME=/tmp NUMBA_CACHE_DIR=/tmp MPLCONFIGDIR=/tmp
EXPOSE 8510
ENTRYPOINT ["ser", "ui"]
CMD ["--host", "0.0.0.0"]

FROM build AS airflow-environment
COPY environment/airflow.txt environment/
RUN /opt/tools/bin/uv venv --quiet /opt/airflow \
 && /opt/tools/bin/uv pip sync --quiet --python /opt/airflow/bin/python --require-hashes environment/airflow.txt

FROM pipeline AS airflow
COPY --from=airflow-environment /opt/airflow /opt/airflow
COPY deploy/airflow/dags /opt/dags
COPY configs/local.yaml configs/local.yaml
# The pipeline's programs come first on the path; Airflow starts its own by name.
ENV PATH=/opt/venv/bin:/usr/local/nvidia/bin:/opt/airflow/bin:$PATH \
    SER_HOME=/home/ser \
    SER_PROGRAMS=/opt/venv/bin \
    AIRFLOW_HOME=/output/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False
EXPOSE 8080
ENTRYPOINT ["/opt/airflow/bin/airflow"]
CMD ["standalone"]

# What is built without a target.
FROM pipeline
