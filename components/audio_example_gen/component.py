"""ExampleGen of this pipeline."""

from google.protobuf import any_pb2, wrappers_pb2
from tfx.components.example_gen import component
from tfx.dsl.components.base import executor_spec
from tfx.orchestration import data_types
from tfx.proto import example_gen_pb2, range_config_pb2

from components.audio_example_gen import driver, executor
from components.audio_example_gen.patterns import level_patterns
from components.audio_example_gen.settings import IngestSettings
from modules.data.labels import SPLITS


class AudioExampleGen(component.FileBasedExampleGen):
    """Reader of folders of emotional speech and writer of ``tf.Example``s (:mod:`modules.data.examples`) per split.

    Output ``examples`` is a standard Examples artifact with the splits ``train``, ``eval`` and ``test``. It also has
    ``ingest.json``, a summary, ``quarantine.jsonl``, a line with path and reason for every unusable recording, and
    ``clips.jsonl``, a line for every recording.

    The driver for files finds the span and computes a fingerprint of the files, so that a run is repeated when a file
    of the newest span, or of an ``input_base`` without spans, appears, disappears or changes. Of a window of spans, the
    fingerprint of a local run covers all. That of Vertex AI covers the newest alone, so earlier spans must not change.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    def __init__(
        self,
        *,
        input_base: str,
        settings: IngestSettings | None = None,
        range_config: range_config_pb2.RangeConfig | data_types.RuntimeParameter | None = None,
    ) -> None:
        """Configure the ingestion.

        Args:
            input_base: Folder of one or several corpora; local or on any file system of TensorFlow.
            settings: Settings of the ingestion.
            range_config: Span to read; the newest without it.

        Raises:
            ValueError: ``input_base`` has wildcards: ``*``, and those that TFX's search for spans would read as such.
        """
        settings = settings or IngestSettings()
        wildcards = "*?[]\\" if settings.in_spans else "*"
        if found := sorted({*wildcards} & {*input_base}):
            raise ValueError(
                f"input_base is {input_base!r}; allowed: a path without {' '.join(found)}. Rename the folder"
            )
        super().__init__(
            input_base=input_base,
            input_config=example_gen_pb2.Input(
                splits=[
                    example_gen_pb2.Input.Split(name=f"level_{level}", pattern=pattern)
                    for level, pattern in enumerate(level_patterns(settings.pattern), start=1)
                ]
            ),
            # Only the names have an effect: the executor assigns speakers and does not hash.
            output_config=example_gen_pb2.Output(
                split_config=example_gen_pb2.SplitConfig(
                    splits=[example_gen_pb2.SplitConfig.Split(name=split, hash_buckets=1) for split in SPLITS]
                )
            ),
            range_config=range_config,
            custom_config=pack_settings(settings),
        )


def pack_settings(settings: IngestSettings) -> example_gen_pb2.CustomConfig:
    """Return the settings as JSON in a string, since a Struct would turn integers into floats.

    Args:
        settings: Settings of the ingestion.
    """
    packed = any_pb2.Any()
    packed.Pack(wrappers_pb2.StringValue(value=settings.to_json()))
    return example_gen_pb2.CustomConfig(custom_config=packed)
