#!/usr/bin/env bash
# Send a WAV file to a served model over REST.
#   examples/predict.sh recording.wav [http://HOST:PORT]
set -euo pipefail
recording=$1 url=${2:-http://localhost:8501}
printf '{"instances": [{"audio": {"b64": "%s"}}]}' "$(base64 --wrap 0 "$recording")" |
  curl --silent --show-error --fail --header 'Content-Type: application/json' --data @- "$url/v1/models/ser:predict"
