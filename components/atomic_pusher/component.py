"""TFX's Pusher with an executor that publishes a version by an atomic rename."""

from tfx.components import Pusher
from tfx.dsl.components.base import executor_spec

from components.atomic_pusher import executor


class AtomicPusher(Pusher):
    """Pusher of a blessed model to the next version folder; TF Serving never loads a partial version.

    Pushing the model that is already the newest version records that version and copies nothing.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
