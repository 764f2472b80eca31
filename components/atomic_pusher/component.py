"""TFX's Pusher with an executor that never exposes a partial version."""

from tfx.components import Pusher
from tfx.dsl.components.base import executor_spec

from components.atomic_pusher import executor


class AtomicPusher(Pusher):
    """Pusher that makes a blessed model the next version folder, by an atomic rename.

    Pushing the model that is already the newest version records that version and copies nothing.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
