"""Curated TFDV schemas, one for each feature family."""

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from modules.audio.spec import AudioSpec
from modules.data import examples


def set_emotions(schema: schema_pb2.Schema, emotions: Sequence[str]) -> None:
    """Allow some emotions, and no others.

    Args:
        schema: Schema that is changed.
        emotions: The emotions, in the order of a model's outputs.
    """
    features = {feature.name: feature for feature in schema.feature}
    del features[examples.EMOTION].string_domain.value[:]
    features[examples.EMOTION].string_domain.value.extend(emotions)
    features[examples.EMOTION_ID].int_domain.max = len(emotions) - 1


def load(spec: AudioSpec) -> schema_pb2.Schema:
    """Return the curated schema with the sizes of an audio spec.

    Args:
        spec: Audio spec of the examples.
    """
    text = Path(__file__).with_name(f"{spec.feature_family}.pbtxt").read_text()
    schema = text_format.Parse(text, schema_pb2.Schema())
    features = {feature.name: feature for feature in schema.feature}
    del features[examples.FEATURES].shape.dim[:]
    features[examples.FEATURES].shape.dim.extend(schema_pb2.FixedShape.Dim(size=size) for size in spec.feature_shape)
    features[examples.VALID_FRAMES].int_domain.max = spec.window_frames
    return schema
