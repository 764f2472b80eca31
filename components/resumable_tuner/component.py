"""TFX's Tuner with an executor that resumes an interrupted search."""

from tfx.components import Tuner
from tfx.dsl.components.base import executor_spec

from components.resumable_tuner import executor


class ResumableTuner(Tuner):
    """Tuner that resumes an interrupted search of the same settings and data, of this run or of an earlier one.

    Outputs are the Tuner's. ``trials.json`` in its results has outcome and curves of every trial.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
