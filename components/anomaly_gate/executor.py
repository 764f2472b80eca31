"""Executor of the AnomalyGate."""

import posixpath

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.artifacts import Artifacts, Properties
from modules.data import examples

ANOMALIES_KEY = "anomalies"
STATISTICS_KEY = "statistics"
AUDIO_SPEC_KEY = "audio_spec"

_ANOMALIES_FILE = "SchemaDiff.pb"


class AnomalousData(RuntimeError):
    """The data do not fit the schema; the message lists each anomaly and what to do."""


class Executor(base_executor.BaseExecutor):
    """Executor that raises on the first split with findings of ExampleValidator."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Raise :class:`AnomalousData` if any split has an anomaly or a foreign audio spec."""
        anomalies = artifact_utils.get_single_instance(input_dict[ANOMALIES_KEY])
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS_KEY])
        problems: list[str] = []
        for split in artifact_utils.decode_split_names(anomalies.split_names):
            uri = artifact_utils.get_split_uri([anomalies], split)
            found = tfdv.utils.anomalies_util.load_anomalies_binary(posixpath.join(uri, _ANOMALIES_FILE))
            problems += [f"{split}: {line}" for line in describe(found)]
            counted = stats_artifact_utils.load_statistics(statistics, split).proto()
            problems += [f"{split}: {line}" for line in foreign_specs(counted, exec_properties[AUDIO_SPEC_KEY])]
        if problems:
            raise AnomalousData(
                f"The examples do not fit the curated schema ({len(problems)} anomalies); the run stops before "
                "anything is trained on them:\n  "
                + "\n  ".join(problems)
                + "\nMend the data, or change schema/ if the data are right and the schema is not."
            )


def describe(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """One line for each anomaly: the feature, what is wrong, and the values seen."""
    lines = [
        f"{feature}: {info.short_description} ({info.description})"
        for feature, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"the data set: {anomalies.dataset_anomaly_info.description}")
    if anomalies.data_missing:
        lines.append("the data set: there are no examples")
    return lines


def foreign_specs(statistics: statistics_pb2.DatasetFeatureStatisticsList, audio_spec: str) -> list[str]:
    """Return a line for each fingerprint among the examples that is not ``audio_spec``."""
    seen = {
        top.value: top.frequency
        for feature in statistics.datasets[0].features
        if list(feature.path.step) == [examples.AUDIO_SPEC]
        for top in feature.string_stats.top_values
    }
    return [
        f"{count:.0f} examples were made with audio spec {fingerprint}, this run uses {audio_spec}"
        for fingerprint, count in sorted(seen.items())
        if fingerprint != audio_spec
    ]
