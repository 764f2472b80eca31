#!/usr/bin/env bash
# Unpacks skopeo and Docker's registry of this machine's own distribution into .setup/registry, for `make digests` and
# its test.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROOT=.setup/registry
# The libraries that a system without GnuPG may lack; Ubuntu 24.04 and Debian 13 have some under other names.
environment/apt_unpack.sh "$ROOT" "" skopeo docker-registry \
  '?name("^libgpgme11(t64)?$")' '?name("^libassuan[0-9]+$")' libdevmapper1.02.1 libgpg-error0
mkdir "$ROOT/bin"
cat > "$ROOT/bin/skopeo" <<'END'
#!/bin/sh
root=$(dirname "$(dirname "$0")")
libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=$libraries exec "$root/usr/bin/skopeo" "$@"
END
chmod 755 "$ROOT/bin/skopeo"
touch "$ROOT/.ready"
