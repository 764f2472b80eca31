#!/usr/bin/env bash
# Looks the packages of the lock up among known vulnerabilities, on pypi.org.
#   environment/audit.sh PIP_AUDIT [MORE OPTIONS OF PIP_AUDIT ...]
# Vulnerabilities in environment/audit_exceptions.txt are accepted until the day that it names.
set -euo pipefail
cd "$(dirname "$0")/.."

ignored=()
while read -r id until reason; do
  [[ -n $id && $id != \#* ]] || continue
  date --date "$until" >/dev/null && [[ $until == ????-??-?? && -n $reason ]] ||
    { echo "audit_exceptions.txt: '$id $until $reason' is not: ID, last day as YYYY-MM-DD, package and reason" >&2; exit 1; }
  if [[ $until < $(date --utc +%F) ]]; then
    echo "audit_exceptions.txt: $id was accepted until $until; update the package, or set a later day" >&2
  else
    ignored+=(--ignore-vuln "$id")
  fi
done < environment/audit_exceptions.txt

exec "$@" --requirement requirements.lock --require-hashes --disable-pip --strict "${ignored[@]}"
