"""The Pusher of runs on Vertex AI: to a version folder, and from there to an endpoint."""

from tfx.components import Pusher
from tfx.dsl.components.base import executor_spec

from components.vertex_pusher import executor


class VertexPusher(Pusher):
    """Push a blessed model as the next version folder, register it, and deploy it where there is an image for that.

    TFX's own Pusher for Vertex AI cannot set up TF Serving, never undeploys anything, and makes a new model of each
    push. This one takes :class:`components.vertex_pusher.executor.Options` as ``custom_config``.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
