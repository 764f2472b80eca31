#!/usr/bin/env bash
# Unpacks Prometheus and Alertmanager of this machine's own distribution into .setup/monitoring, for the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROOT=.setup/monitoring
environment/apt_unpack.sh "$ROOT" "" prometheus prometheus-alertmanager
# Debian's Alertmanager reads its template from /usr/share. A path of the same length, relative to the folder that the
# tests start it in, replaces that.
LC_ALL=C sed -i 's#/usr/share/prometheus/alertmanager#usr//share/prometheus/alertmanager#' "$ROOT/usr/bin/prometheus-alertmanager"
touch "$ROOT/.ready"
