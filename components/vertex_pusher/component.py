"""Pusher of runs on Vertex AI: to a version folder, and from there to an endpoint."""

from tfx.components import Pusher
from tfx.dsl.components.base import executor_spec

from components.vertex_pusher import executor


class VertexPusher(Pusher):
    """Pusher that makes a blessed model the next version folder, registers it, and deploys it if an image is set.

    TFX's own Pusher for Vertex AI cannot set up TF Serving, never undeploys a model, and creates a new model for each
    push. This one reads :class:`components.vertex_pusher.executor.Options` from ``custom_config``.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
