"""TFX's Pusher with an executor that never shows a half-written version."""

from tfx.components import Pusher
from tfx.dsl.components.base import executor_spec

from components.atomic_pusher import executor


class AtomicPusher(Pusher):
    """Pushes a blessed model as the next version folder; TF Serving sees all of it or nothing.

    Pushing the model that is already the newest version records that version and copies nothing.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
