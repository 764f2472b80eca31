"""Executor of the ResumableTuner."""

import json
import os

from tfx.components.tuner import executor as tfx_tuner
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils

from components.artifacts import Artifacts, Properties
from modules.training.tuner import search_report

TRIALS_FILE = "trials.json"
SEARCHES_FOLDER = "searches"


class Executor(tfx_tuner.Executor):
    """TFX's search, in a folder that outlives this execution."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Search, and write the best hyperparameters, TFX's results and the outcome of each trial."""
        if tfx_tuner.get_tune_args(exec_properties):
            raise ValueError("this tuner runs one trial at a time: give no tune_args")
        results_uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.TUNER_RESULTS_KEY])
        tuner = tfx_tuner.search(input_dict, exec_properties, searches_folder(results_uri))
        tfx_tuner.write_best_hyperparameters(tuner, output_dict)
        report = json.dumps(search_report(tuner))
        io_utils.write_string_file(os.path.join(results_uri, TRIALS_FILE), report)
        tuner.delete_weights()


def searches_folder(results_uri: str) -> str:
    """Return the folder of searches, a sibling of the node's artifacts ``<root>/<node>/tuner_results/<execution>``."""
    node = os.path.dirname(os.path.dirname(results_uri.rstrip("/")))
    return os.path.join(node, SEARCHES_FOLDER)
