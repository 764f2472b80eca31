#!/usr/bin/env bash
# Builds the Dockerfiles by an engine, without a registry, and runs what the images hold.
#   deploy/images/check.sh [pipeline|gpu|worker|page|airflow|serving ...]     without names: all but gpu
#   OUTPUT=output deploy/images/check.sh compose                      compose.yaml, on the models of OUTPUT/serving
# Needs root, Debian's buildah, debootstrap and iproute2, a Debian mirror and a package index, and 25 GB in TMPDIR.
# compose also needs Debian's podman, runc, netavark and aardvark-dns, and podman-compose 1.6 from PyPI.
#
# Base images are made here and given as build arguments:
#   PYTHON_IMAGE   Debian 13 by debootstrap, with Debian 12's Python 3.11
#   BEAM_IMAGE     stand_ins/boot in place of Beam's boot program
#   SERVING_IMAGE  Debian 13 with stand_ins/tensorflow_model_server in place of TF Serving
# Builds see this machine's settings for pip and uv, and its certificates, through mounts: no image keeps them.
#
#   WORK=DIR               keep images and containers there, for the next time
#   STORAGE_DRIVER=vfs     where overlay cannot be mounted; needs 60 GB
#   DEBIAN_MIRROR=URL      instead of http://deb.debian.org/debian
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly HERE=deploy/images MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian} NETWORK=ser-images-$$
readonly CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
export STORAGE_DRIVER=${STORAGE_DRIVER:-overlay} BUILDAH_ISOLATION=chroot

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'check.sh: %s\n' "$*" >&2; exit 1; }

engine() { buildah --root "$WORK/storage" --runroot "$WORK/run" "$@"; }

require_tools() {
  local tool missing=()
  for tool in buildah debootstrap ip "$@"; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  [ ${#missing[@]} = 0 ] || die "${missing[*]} not found; install buildah, debootstrap and iproute2 with apt"
  [ "$(id -u)" = 0 ] || die "run by user $(id -un); debootstrap needs root"
}

set_up() {
  KEEP=${WORK:+yes}
  WORK=${WORK:-$(mktemp -d -t ser-images.XXXXXX)}
  mkdir -p "$WORK/settings"
  trap clean_up EXIT
}

clean_up() {
  ip netns pids "$NETWORK" 2>/dev/null | xargs -r kill -9 || true  # without worker there is no network
  ip netns delete "$NETWORK" 2>/dev/null || true
  [ ! -d "$WORK/stack" ] || compose down --volumes >/dev/null 2>&1 || true
  engine rm --all >/dev/null 2>&1 || true
  umount "$WORK/storage/overlay" 2>/dev/null || true  # the engine mounts its storage on itself
  [ -n "$KEEP" ] || rm -rf "$WORK"
}

# --- Base images

have() { engine inspect --type image "localhost/$1" >/dev/null 2>&1; }

commit() { engine commit --quiet --rm "$1" "localhost/base/$2" >/dev/null; }

make_python_base() {
  have base/python && return
  say "base image: Debian 13 with Python 3.11"
  local container root
  container=$(engine from scratch)
  root=$(engine mount "$container")
  debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$MIRROR" > "$WORK/debootstrap.log" ||
    die "debootstrap failed: $(tail -3 "$WORK/debootstrap.log")"
  printf 'deb %s bookworm main\n' "$MIRROR" > "$root/etc/apt/sources.list.d/bookworm.list"
  printf 'Package: python3* libpython3*\nPin: release n=bookworm\nPin-Priority: 700\n' > "$root/etc/apt/preferences.d/python"
  engine run "$container" -- sh -euc '
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3-dev python3-venv >/dev/null 2>&1
    rm -rf /var/lib/apt/lists/*
    python3.11 -m venv /usr/local'
  engine config --cmd python3 "$container"
  commit "$container" python
}

make_beam_base() {
  local container
  container=$(engine from scratch)
  engine copy --quiet --chmod 755 "$container" "$HERE/stand_ins/boot" /opt/apache/beam/boot >/dev/null
  commit "$container" beam
}

make_serving_base() {
  local container
  container=$(engine from localhost/base/python)
  engine copy --quiet --chmod 755 "$container" "$HERE/stand_ins/tensorflow_model_server" /usr/bin/ >/dev/null
  commit "$container" serving
}

# --- The Dockerfiles

build() {  # TARGET ARGUMENTS OF THE ENGINE ...
  local target=$1 started=$SECONDS mounts=(); shift
  say "build: $target"
  # uv reads the system's certificates only when it is configured to.
  if [ -e /etc/uv/uv.toml ]; then cp /etc/uv/uv.toml "$WORK/settings/uv.toml"; else echo 'system-certs = true' > "$WORK/settings/uv.toml"; fi
  mounts+=(--volume "$WORK/settings/uv.toml:/etc/uv/uv.toml:ro")
  [ ! -e /etc/pip.conf ] || mounts+=(--volume /etc/pip.conf:/etc/pip.conf:ro)
  [ ! -e "$CERTIFICATES" ] || mounts+=(--volume "$CERTIFICATES:$CERTIFICATES:ro")
  engine build --layers --pull-never "${mounts[@]}" --tag "localhost/ser/$target" "$@" . > "$WORK/build.log" 2>&1 ||
    die "the build failed: $(tail -20 "$WORK/build.log")"
  printf '%s: %s s, %s\n' "$target" "$((SECONDS - started))" \
    "$(engine images --format '{{.Size}}' "localhost/ser/$target")"
}

build_target() {
  case $1 in
    serving) build serving --file serving/container/Dockerfile --build-arg SERVING_IMAGE=localhost/base/serving ;;
    *) build "$1" --target "$1" \
         --build-arg PYTHON_IMAGE=localhost/base/python --build-arg BEAM_IMAGE=localhost/base/beam ;;
  esac
}

# --- What the images hold

container() { engine from --pull-never "localhost/ser/$1"; }

run() {  # TARGET COMMAND ...: in a new container, as the image's user; the checkout is there, read-only
  local name status=0; name=$(container "$1"); shift
  # Through a file: buildah 1.28 now and then loses what a process wrote to a pipe just before it ended.
  install --mode 666 /dev/null "$WORK/stdout"
  engine run --volume "$PWD:/workspace:ro" --volume "$WORK/stdout:/stdout" --workingdir /tmp "$name" -- \
    sh -c '"$@" > /stdout' sh "$@" || status=$?
  cat "$WORK/stdout"
  return $status
}

entrypoint() { engine inspect --type image --format '{{index .OCIv1.Config.Entrypoint 0}}' "localhost/ser/$1"; }

expect() {  # WHAT EXPECTED FOUND
  [ "$2" = "$3" ] || die "$1: expected '$2', found '$3'"
  printf '%s: %s\n' "$1" "$3"
}

check_environment() {  # TARGET UID
  expect "$1: user" "$2" "$(run "$1" id -u)"
  expect "$1: NVIDIA's libraries" /usr/local/nvidia/lib64:/usr/local/nvidia/lib "$(run "$1" sh -c 'echo "$LD_LIBRARY_PATH"')"
  expect "$1: default family" encoder_cnn "$(run "$1" sh -c 'ser config show | sed -n "s/^  family: \([a-z_]*\).*/\1/p"')"
  expect "$1: pip finds Beam" "Name: apache-beam" "$(run "$1" python -m pip show apache-beam | grep '^Name:')"
}

check_pipeline() {
  check_environment pipeline 10001
  say "pipeline: container commands of the compiled pipeline"
  run pipeline python /workspace/deploy/images/component.py
  check_tests
}

check_tests() {  # the step `test` of cloudbuild.yaml: root's files, made writable for others, and root's HOME
  say "pipeline: the test runner of Cloud Build's step, on one file"
  local name; name=$(container pipeline)
  rm -rf "$WORK/workspace"; mkdir "$WORK/workspace"
  git ls-files -z | xargs -0 cp --parents --target-directory "$WORK/workspace"
  chmod -R a+rwX "$WORK/workspace"
  engine run --volume "$WORK/workspace:/workspace" --workingdir /workspace --env HOME=/tmp "$name" -- \
    python -m pytest -q -n 2 -p no:cacheprovider tests/modules/audio/test_windowing.py
  rm -rf "$WORK/workspace"
}

check_gpu() {
  check_environment gpu 10001
  run gpu python -c 'import nvidia.cudnn, tensorflow as tf; print("gpu: built for CUDA", tf.sysconfig.get_build_info()["cuda_version"])'
}

check_worker() {
  check_environment worker 0
  expect "worker: entrypoint" /opt/apache/beam/boot "$(entrypoint worker)"
  say "worker: a Beam pipeline from the pipeline image, in a worker of the worker image"
  local worker driver
  worker=$(container worker); driver=$(container pipeline)
  mkdir -p --mode 755 "$WORK/google"; rm -rf "$WORK/google/staged"
  ip netns add "$NETWORK"; ip -n "$NETWORK" link set lo up  # Beam listens at every address there is
  in_network --volume "$WORK/google:/var/opt/google" "$worker" -- "$(entrypoint worker)" --worker_pool > "$WORK/worker.log" 2>&1 &
  in_network --volume "$PWD:/workspace:ro" --workingdir /tmp "$driver" -- python /workspace/deploy/images/worker.py localhost:50000 ||
    die "the worker's log: $(cat "$WORK/worker.log")"
  grep -q 'Name: apache-beam' "$WORK/worker.log" || die "boot did not look for apache-beam: $(cat "$WORK/worker.log")"
  expect "worker: folder of staged files" 0 "$(stat --format %u "$WORK/google/staged")"
}

in_network() { ip netns exec "$NETWORK" buildah --root "$WORK/storage" --runroot "$WORK/run" run --hostname localhost "$@"; }

check_page() {
  expect "page: user" 10001 "$(run page id -u)"
  expect "page: entrypoint" ser "$(entrypoint page)"
  expect "page: health" ok "$(run page sh -uc '
    ser ui --host 127.0.0.1 > /tmp/page.log 2>&1 &
    for _ in $(seq 60); do
      python -c "import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8510/_stcore/health\").read().decode())" 2>/dev/null && exit
      sleep 1
    done
    cat /tmp/page.log >&2; exit 1')"
}

check_airflow() {
  expect "airflow: user" 10001 "$(run airflow id -u)"
  expect "airflow: entrypoint" /opt/airflow/bin/airflow "$(entrypoint airflow)"
  expect "airflow: commands of the tasks" configs/local.yaml "$(run airflow sh -euc '
    cd "$SER_HOME"
    "$SER_PROGRAMS/python" -m runner_local --help >/dev/null
    "$SER_PROGRAMS/ser" drift --help >/dev/null
    ls configs/local.yaml')"
  expect "airflow: health, and the DAG" "healthy healthy healthy ser" "$(run airflow sh -uc '
    export AIRFLOW_HOME=/tmp/airflow AIRFLOW__API__PORT=18080 AIRFLOW__CORE__PARALLELISM=1
    setsid airflow standalone > /tmp/airflow.log 2>&1 &
    trap "kill -- -$!" EXIT
    for _ in $(seq 300); do
      /opt/airflow/bin/python - 2>/dev/null <<END && airflow dags list --columns dag_id --output plain 2>/dev/null | tail -1 && exit
import json, sys, urllib.request
found = json.load(urllib.request.urlopen("http://127.0.0.1:18080/api/v2/monitor/health"))
states = [found[part]["status"] for part in ("metadatabase", "scheduler", "dag_processor")]
states == 3 * ["healthy"] or sys.exit(1)
print(*states, end=" ", flush=True)
END
      sleep 1
    done
    tail -50 /tmp/airflow.log >&2; exit 1')"
}

check_serving() {
  say "serving: the arguments that the entrypoint gives to TF Serving"
  local start; start=$(entrypoint serving)
  run serving "$start" | tee "$WORK/serving.log"
  grep -qx -- --model_config_file=/etc/ser/models.config "$WORK/serving.log" || die "the local configuration is not used"
  run serving sh -euc 'for file in models batching monitoring; do test -r /etc/ser/$file.config; done'
  run serving env AIP_STORAGE_URI=gs://bucket/7 AIP_HTTP_PORT=8080 AIP_HEALTH_ROUTE=/v1/models/ser "$start" > "$WORK/serving.log"
  grep -qx -- --rest_api_port=8080 "$WORK/serving.log" && grep -qx -- --model_base_path=gs://bucket/7 "$WORK/serving.log" ||
    die "what Vertex AI sets is not used: $(cat "$WORK/serving.log")"
  ! run serving env AIP_PREDICT_ROUTE=/other "$start" 2>/dev/null || die "a route that TF Serving does not have was accepted"
}

# --- compose.yaml

make_monitoring_image() {  # PROGRAM OF DEBIAN, ARGUMENTS ...: in place of a released image, under its name
  local program=$1 name=${1#prometheus-} image container; shift
  image=docker.io/$(sed -n "s|^ *image: \(prom/$name:[^@]*\).*|\1|p" compose.yaml)
  container=$(engine from localhost/base/python)
  engine run "$container" -- sh -euc "
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $program >/dev/null 2>&1
    install -d -o nobody /$name"
  engine config --user nobody --workingdir / --volume "/$name" --entrypoint "[\"/usr/bin/$program\"]" --cmd "$*" "$container"
  engine commit --quiet --rm "$container" "$image" >/dev/null
}

set_up_podman() {  # the engine's images; limits that a process without CAP_SYS_RESOURCE may set
  export CONTAINERS_STORAGE_CONF=$WORK/settings/storage.conf CONTAINERS_CONF=$WORK/settings/containers.conf
  printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrunroot = "%s"\n' \
    "$STORAGE_DRIVER" "$WORK/storage" "$WORK/run" > "$CONTAINERS_STORAGE_CONF"
  printf '%s\n' '[containers]' 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]' \
    '[engine]' 'runtime = "runc"' 'cgroup_manager = "cgroupfs"' 'events_logger = "file"' \
    '[network]' 'network_backend = "netavark"' "network_config_dir = \"$WORK/networks\"" > "$CONTAINERS_CONF"
}

compose() { podman-compose --in-pod false --file "$WORK/stack/compose.yaml" --profile embedded "$@"; }

check_compose() {  # all services of the profile but Grafana, which Debian does not have
  local target output; output=$(realpath "${OUTPUT:?the folder of a run that pushed a model}")
  for target in pipeline page; do engine tag "localhost/ser/$target" "localhost/ser-$target"; done
  make_monitoring_image prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus
  make_monitoring_image prometheus-alertmanager --config.file=/etc/alertmanager/alertmanager.yml --storage.path=/alertmanager
  set_up_podman
  rm -rf "$WORK/stack"; mkdir -p "$WORK/stack" "$WORK/networks"
  # This machine may use the ports; an image that was made here has another digest.
  sed -E '/^    ports:/d; s/@sha256:[0-9a-f]+//' compose.yaml > "$WORK/stack/compose.yaml"
  cp -r deploy "$WORK/stack"; ln -s "$output" "$WORK/stack/output"
  say "compose: server, page, monitor, Prometheus and Alertmanager by podman"
  compose up --detach --no-build embedded page monitor prometheus alertmanager > "$WORK/compose.log" 2>&1 ||
    die "the stack did not start: $(tail -20 "$WORK/compose.log")"
  podman exec --interactive ser_page_1 python - < "$HERE/stack.py" || die "$(compose logs 2>&1 | tail -40)"
}

main() {
  local target targets=("$@")
  [ $# -gt 0 ] || targets=(pipeline worker page airflow serving)
  for target in "${targets[@]}"; do
    case $target in pipeline|gpu|worker|page|airflow|serving|compose) ;; *) die "$target is not a target; there are pipeline, gpu, worker, page, airflow, serving and compose" ;; esac
  done
  case " ${targets[*]} " in *" compose "*) require_tools podman runc podman-compose ;; *) require_tools ;; esac
  set_up
  make_python_base; make_beam_base; make_serving_base
  for target in "${targets[@]}"; do
    case $target in worker|compose) have ser/pipeline || build_target pipeline ;; esac  # they run it too
    if [ "$target" = compose ]; then have ser/page || build_target page; else build_target "$target"; fi
    "check_$target"
  done
}

main "$@"
