#!/usr/bin/env bash
# Unpacks packages of an apt archive into a folder, without touching the system and without root.
#   apt_unpack.sh FOLDER SOURCES PACKAGE...
# SOURCES is a list in the format of sources.list, or empty for the machine's own sources. A PACKAGE is a name or a
# pattern of apt. apt verifies the archive's signature as it does for an installation.
set -euo pipefail

readonly FOLDER=$PWD/$1 SOURCES=$2 APT=$PWD/.setup/apt
shift 2

command -v apt-get >/dev/null || { echo "setup: there is no apt here to fetch $1 with; use Debian or Ubuntu" >&2; exit 1; }
rm -rf "$APT" "$FOLDER.new"; mkdir -p "$APT"/{lists/partial,cache/archives/partial,empty} "$FOLDER.new"
: > "$APT/status"
options=(-oDir::State::lists="$APT/lists" -oDir::State::status="$APT/status" -oDir::Cache="$APT/cache"
         -oAPT::Sandbox::User="$(id -un)" -oAcquire::Retries=3 -oAcquire::Languages=none)
if [ -n "$SOURCES" ]; then
  printf '%s\n' "$SOURCES" > "$APT/sources.list"
  options+=(-oDir::Etc::sourcelist="$APT/sources.list" -oDir::Etc::sourceparts="$APT/empty")
fi
apt-get "${options[@]}" -qq update
(cd "$APT" && apt-get "${options[@]}" -qq download "$@")
for package in "$APT"/*.deb; do dpkg -x "$package" "$FOLDER.new"; done
rm -rf "$FOLDER" "$APT"; mv "$FOLDER.new" "$FOLDER"
