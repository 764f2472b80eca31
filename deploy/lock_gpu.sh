#!/usr/bin/env bash
# Resolves the CUDA libraries of the GPU image against requirements.lock. Run it after `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LOCK=deploy/gpu.lock
tensorflow=$(sed -n 's/^tensorflow==\([0-9.]*\).*/\1/p' requirements.lock)
{
  printf '# CUDA libraries that tensorflow[and-cuda]==%s adds to requirements.lock; deploy/lock_gpu.sh makes this file.\n' "$tensorflow"
  printf 'tensorflow[and-cuda]==%s\n' "$tensorflow" |
    .setup/tools/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 \
      --python-platform x86_64-manylinux_2_39 --constraint requirements.lock --no-annotate --no-header - |
    awk '/^[a-z]/ { keep = /^nvidia-/ } keep'
} > "$LOCK.new"
mv "$LOCK.new" "$LOCK"
