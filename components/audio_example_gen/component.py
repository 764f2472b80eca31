"""The ExampleGen of this pipeline."""

from google.protobuf import any_pb2, wrappers_pb2
from tfx.components.example_gen import component
from tfx.dsl.components.base import executor_spec
from tfx.orchestration import data_types
from tfx.proto import example_gen_pb2, range_config_pb2

from components.audio_example_gen import driver, executor
from components.audio_example_gen.settings import IngestSettings
from components.audio_example_gen.spans import level_patterns
from modules.data.labels import SPLITS


class AudioExampleGen(component.FileBasedExampleGen):
    """ExampleGen that reads folders of emotional speech and writes ``tf.Example``s per split.

    :mod:`modules.data.examples` defines the features.

    Output ``examples``: standard Examples with the splits ``train``, ``eval`` and ``test``. Next to the splits are
    ``ingest.json``, a summary, ``quarantine.jsonl``, a line with path and reason for every quarantined recording,
    and ``clips.jsonl``, a line for every recording.

    TFX's own driver for files finds the span and watches the files, here and on Vertex alike. So a run is repeated
    when a file of the newest span, or of an ``input_base`` without spans, comes, goes or changes. Of a window of spans,
    a local run watches all; Vertex AI runs no driver but TFX's, so that spans must be left as they are there.
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
        """Create the component.

        Args:
            input_base: Folder that holds one or several corpora; local or on any file system that TensorFlow supports.
            settings: All other settings of the ingestion.
            range_config: Span to read; the latest by default.
        """
        settings = settings or IngestSettings()
        if any(character in input_base for character in "*?[]\\"):
            raise ValueError(f"input_base is {input_base!r}; wildcards are not allowed in it, rename the folder")
        super().__init__(
            input_base=input_base,
            input_config=example_gen_pb2.Input(
                splits=[
                    example_gen_pb2.Input.Split(name=f"level_{level}", pattern=pattern)
                    for level, pattern in enumerate(level_patterns(settings.pattern), start=1)
                ]
            ),
            # Only the names matter: the executor assigns speakers and hashes nothing.
            output_config=example_gen_pb2.Output(
                split_config=example_gen_pb2.SplitConfig(
                    splits=[example_gen_pb2.SplitConfig.Split(name=split, hash_buckets=1) for split in SPLITS]
                )
            ),
            range_config=range_config,
            custom_config=pack_settings(settings),
        )


def pack_settings(settings: IngestSettings) -> example_gen_pb2.CustomConfig:
    """As JSON in a string: a Struct would turn whole numbers into floats."""
    packed = any_pb2.Any()
    packed.Pack(wrappers_pb2.StringValue(value=settings.to_json()))
    return example_gen_pb2.CustomConfig(custom_config=packed)
