"""Executor of the ResumableTuner."""

import json
import os

from tfx.components.tuner import executor as tfx_tuner
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils

from components.artifacts import TRIALS_FILE, Artifacts, Properties
from modules.training.tuner import search_report

SEARCHES_FOLDER = "searches"


class Executor(tfx_tuner.Executor):
    """TFX's search in a folder that later executions find."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Search, and write the best hyperparameters, TFX's results and ``trials.json``.

        Args:
            input_dict: Those of TFX's Tuner.
            output_dict: Best hyperparameters and tuner results.
            exec_properties: Those of TFX's Tuner.

        Raises:
            ValueError: ``tune_args`` are given.
        """
        if tfx_tuner.get_tune_args(exec_properties):
            raise ValueError("tune_args are given, and this tuner runs one trial at a time; leave tune_args out")
        results_uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.TUNER_RESULTS_KEY])
        tuner = tfx_tuner.search(input_dict, exec_properties, searches_folder(results_uri))
        tfx_tuner.write_best_hyperparameters(tuner, output_dict)
        report = json.dumps(search_report(tuner))
        io_utils.write_string_file(os.path.join(results_uri, TRIALS_FILE), report)
        tuner.delete_weights()


def searches_folder(results_uri: str) -> str:
    """Return the folder of all searches, ``<root>/<node>/searches``.

    Args:
        results_uri: Artifact of the node, ``<root>/<node>/tuner_results/<execution>``.
    """
    node = os.path.dirname(os.path.dirname(results_uri.rstrip("/")))
    return os.path.join(node, SEARCHES_FOLDER)
