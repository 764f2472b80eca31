"""TFX's Trainer and Tuner for Vertex AI, which start one CustomJob per run."""

from tfx.dsl.components.base import executor_spec
from tfx.extensions.google_cloud_ai_platform.trainer import component as vertex_trainer
from tfx.extensions.google_cloud_ai_platform.tuner import component as vertex_tuner

from components.vertex_jobs import executor


class VertexTrainer(vertex_trainer.Trainer):
    """Train in a CustomJob, which a repeated attempt finds again."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.TrainerExecutor)


class VertexTuner(vertex_tuner.Tuner):
    """Tune in a CustomJob, which a repeated attempt finds again."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.TunerExecutor)
