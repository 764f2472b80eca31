"""Audio in, emotion out::

    with Client("localhost:8500") as client:
        print(client.predict("speech.flac").emotion)
        for segment in client.segments("meeting.wav"):
            print(segment.start_sec, segment.emotion)

The forms of an address are those of :mod:`serving.client.transport`, the errors those of :mod:`serving.client.errors`.
Every call has a deadline. Within it, a call is retried only when the server is unavailable.
Neither TensorFlow nor TFX is imported.
"""

from serving.client.client import DEFAULT_MODEL, AsyncClient, Client
from serving.client.errors import (
    AddressError,
    AudioError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    RequestFailed,
    ServerUnreachable,
    ServingError,
    UnexpectedAnswer,
)
from serving.client.predictions import Prediction, Segment
from serving.client.recordings import Audio
from serving.client.segments import segments_of
from serving.client.transport import DEFAULT_ADDRESS

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_MODEL",
    "AddressError",
    "AsyncClient",
    "Audio",
    "AudioError",
    "Client",
    "DeadlineExceeded",
    "InvalidRequest",
    "ModelNotFound",
    "Overloaded",
    "Prediction",
    "RequestFailed",
    "Segment",
    "ServerUnreachable",
    "ServingError",
    "UnexpectedAnswer",
    "segments_of",
]
