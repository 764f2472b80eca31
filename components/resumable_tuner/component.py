"""TFX's Tuner with an executor that resumes a stopped search."""

from tfx.components import Tuner
from tfx.dsl.components.base import executor_spec

from components.resumable_tuner import executor


class ResumableTuner(Tuner):
    """Tuner that resumes a stopped search of the same settings and data, of this run or an earlier one.

    Outputs are the Tuner's; ``trials.json`` next to its results lists every trial with its outcome and curves.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
