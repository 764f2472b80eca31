"""TFX's Tuner with an executor that can go on with a search that was stopped."""

from tfx.components import Tuner
from tfx.dsl.components.base import executor_spec

from components.resumable_tuner import executor


class ResumableTuner(Tuner):
    """Searches where a search of the same settings and data was stopped, in this run or an earlier one.

    Outputs are the Tuner's; ``trials.json`` beside its results says what became of every trial, with its curves.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
