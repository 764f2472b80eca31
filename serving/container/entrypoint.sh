#!/bin/sh
# Starts TF Serving with this project's configuration, on Vertex AI from its AIP_* variables.
# Arguments are passed to tensorflow_model_server and take precedence over the flags here.
set -eu

model_name=${MODEL_NAME:-ser}
config_dir=${SER_CONFIG_DIR:-/etc/ser}
rest_api_port=${AIP_HTTP_PORT:-8501}
grpc_port=${SER_GRPC_PORT:-8500}

# TF Serving's routes follow from the model's name and cannot be chosen: a container registered with other routes would
# start, and fail every health check.
require_route() {
    if [ -n "$2" ] && [ "$2" != "$3" ]; then
        echo "$1 is $2, but this model answers on $3: upload the model with that route" >&2
        exit 64
    fi
}
require_route AIP_HEALTH_ROUTE "${AIP_HEALTH_ROUTE:-}" "/v1/models/$model_name"
require_route AIP_PREDICT_ROUTE "${AIP_PREDICT_ROUTE:-}" "/v1/models/$model_name:predict"

if [ -n "${AIP_STORAGE_URI:-}" ]; then
    # Vertex's copy of the pushed folder, with the numbered version inside. It does not change: 0 lists it once, the
    # default every second.
    set -- "--model_name=$model_name" "--model_base_path=$AIP_STORAGE_URI" --file_system_poll_wait_seconds=0 "$@"
else
    # Polls for new pushes as often as the server for development does. The last flag lets the server start from a
    # models.config with labels of `ser rollout` before their versions are loaded.
    set -- "--model_config_file=$config_dir/models.config" "--file_system_poll_wait_seconds=1" \
        --allow_version_labels_for_unavailable_models=true "$@"
fi

exec tensorflow_model_server \
    "--port=$grpc_port" \
    "--rest_api_port=$rest_api_port" \
    --enable_batching=true \
    "--batching_parameters_file=$config_dir/batching.config" \
    "--monitoring_config_file=$config_dir/monitoring.config" \
    "$@"
