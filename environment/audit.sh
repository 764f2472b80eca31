#!/usr/bin/env bash
# Looks the packages of every lock up among known vulnerabilities, on pypi.org.
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

failed=()
shopt -s nullglob
locks=$(grep --files-with-matches -- --hash=sha256: deploy/*.lock environment/*.txt requirements.lock tests/loaders/*.txt)
for lock in $locks; do
  echo "$lock:"
  "$@" --requirement "$lock" --require-hashes --disable-pip --strict "${ignored[@]}" || failed+=("$lock")
done
[ ${#failed[@]} = 0 ] || { echo "audit.sh: the audit of ${failed[*]} failed" >&2; exit 1; }
