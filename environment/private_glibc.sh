#!/usr/bin/env bash
# Gives a virtual environment's interpreter a newer C library than the system's, without touching the system.
#   private_glibc.sh PYTHON VENV PATCHELF
# Debian 13's libc6, libstdc++6 and libgcc-s1 are fetched from the mirror that this machine's own apt sources name,
# unpacked into .setup/glibc, and a copy of the interpreter loads them. docs/environment.md explains why.
set -euo pipefail

readonly PYTHON_311=$1 VENV=$2 ROOT=$PWD/.setup/glibc
readonly PATCHELF=$PWD/$3
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

readonly ADVICE="TFX's wheels need glibc 2.38 or later. Use Debian 13, Ubuntu 24.04 or the project's Dockerfile."

debian_mirror() {  # the first archive (not the security one) that this machine's apt reads
  apt-get indextargets --format '$(SITE) $(ORIGIN) $(RELEASE)' 2>/dev/null |
    awk '$2 == "Debian" && $1 !~ /security/ { print $1; exit }'
}

fetch() {
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || die "there is no apt here to fetch a newer glibc with. $ADVICE"
  [ -e "$KEYRING" ] || die "$KEYRING is missing, so Debian's packages cannot be verified. $ADVICE"
  local mirror; mirror=$(debian_mirror)
  [ -n "$mirror" ] || die "apt's sources name no Debian mirror (if they do: run 'apt-get update' once, then this again). $ADVICE"

  environment/apt_unpack.sh "${ROOT#"$PWD"/}" "deb [signed-by=$KEYRING] $mirror trixie main" libc6 libstdc++6 libgcc-s1 ||
    die "apt could not download glibc from suite trixie of the mirror. $ADVICE"
}

patch_interpreter() {
  local library_dir=$ROOT/usr/lib/x86_64-linux-gnu interpreter=$VENV/bin/python copy rpath library
  copy=$(mktemp "$VENV/bin/.python.XXXXXX")
  cp "$PYTHON_311" "$copy"
  rpath=$("$PATCHELF" --print-rpath "$copy")
  rpath=${rpath//\$ORIGIN/$(dirname "$PYTHON_311")}  # where the interpreter lay, not where its copy lies
  # A wheel's library that carries a RUNPATH would otherwise load the system's libm with the private libc.
  for library in libm.so.6 libmvec.so.1 libstdc++.so.6 libgcc_s.so.1 librt.so.1 libpthread.so.0 \
                 libdl.so.2 libresolv.so.2 libutil.so.1 libanl.so.1; do
    "$PATCHELF" --add-needed "$library" "$copy"
  done
  "$PATCHELF" --set-interpreter "$library_dir/ld-linux-x86-64.so.2" \
              --force-rpath --set-rpath "$library_dir${rpath:+:$rpath}" "$copy"
  chmod 755 "$copy"
  mv -f "$copy" "$interpreter"
}

[ -e "$ROOT/usr/lib/x86_64-linux-gnu/libc.so.6" ] || fetch
patch_interpreter
