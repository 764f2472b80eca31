"""Executor of the AnomalyGate."""

import posixpath

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.artifacts import Artifacts, Properties
from modules.common.errors import SerError
from modules.data import examples

ANOMALIES_KEY = "anomalies"
STATISTICS_KEY = "statistics"
AUDIO_SPEC_KEY = "audio_spec"

_ANOMALIES_FILE = "SchemaDiff.pb"


class AnomalousData(SerError, RuntimeError):
    """The examples do not fit the schema or the audio spec; the message lists each anomaly."""

    code = "data.anomalous"


class Executor(base_executor.BaseExecutor):
    """Check of ExampleValidator's anomalies and of the examples' audio specs."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Check all splits.

        Args:
            input_dict: Anomalies and statistics.
            output_dict: Empty.
            exec_properties: Fingerprint of the audio spec.

        Raises:
            AnomalousData: A split has an anomaly or another audio spec.
        """
        anomalies = artifact_utils.get_single_instance(input_dict[ANOMALIES_KEY])
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS_KEY])
        problems: list[str] = []
        for split in artifact_utils.decode_split_names(anomalies.split_names):
            uri = artifact_utils.get_split_uri([anomalies], split)
            of_split = tfdv.utils.anomalies_util.load_anomalies_binary(posixpath.join(uri, _ANOMALIES_FILE))
            problems += [f"{split}: {line}" for line in describe(of_split)]
            counts = stats_artifact_utils.load_statistics(statistics, split).proto()
            problems += [f"{split}: {line}" for line in foreign_specs(counts, exec_properties[AUDIO_SPEC_KEY])]
        if problems:
            raise AnomalousData(
                f"The examples do not fit the curated schema ({len(problems)} anomalies); the run stops before "
                "training:\n  " + "\n  ".join(problems) + "\nFix the data; or, if the data are correct, change schema/."
            )


def describe(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Return a line for each anomaly, with feature, kind and values.

    Args:
        anomalies: Anomalies of a split.
    """
    lines = [
        f"{feature}: {info.short_description} ({info.description})"
        for feature, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"the data set: {anomalies.dataset_anomaly_info.description}")
    if anomalies.data_missing:
        lines.append("the data set: it has no examples")
    return lines


def foreign_specs(statistics: statistics_pb2.DatasetFeatureStatisticsList, audio_spec: str) -> list[str]:
    """Return a line for each fingerprint of the examples that is not ``audio_spec``.

    Args:
        statistics: Statistics of a split.
        audio_spec: Expected fingerprint.
    """
    counts = {
        top.value: top.frequency
        for feature in statistics.datasets[0].features
        if list(feature.path.step) == [examples.AUDIO_SPEC]
        for top in feature.string_stats.top_values
    }
    return [
        f"{count:.0f} examples were made with audio spec {fingerprint}, this run uses {audio_spec}"
        for fingerprint, count in sorted(counts.items())
        if fingerprint != audio_spec
    ]
