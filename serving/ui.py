"""Web page of ``ser ui``, which shows the emotions in a recording.

Streamlit runs this file from top to bottom whenever something on the page changes. It sends its
requests through the client, so it works with every address that the client supports.
"""

import argparse
import io

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import streamlit as st
from matplotlib.figure import Figure

from modules.audio.decoding import WIDEST_LIMITS, BadAudio, Recording, decode
from modules.audio.formats import suffixes
from serving.client import DEFAULT_ADDRESS, AudioError, Client, Prediction, Segment, ServerUnreachable, ServingError

# Longer recordings get a timeline: one window of the model covers the others.
LONG_SEC = 4.0
_PLOT_POINTS = 4_000


def main() -> None:
    """Draw the page."""
    address = _address()
    st.set_page_config(page_title="Speech emotion", page_icon="🎙️")
    st.title("Speech emotion")
    st.caption(f"Model: `{address}`")
    encoded = _choose_recording()
    if encoded is None:
        st.info("Upload a recording, or record one, to begin.")
        return
    try:
        recording = decode(encoded, WIDEST_LIMITS)  # the model applies its own limits
    except BadAudio as error:
        st.error(f"This recording cannot be used: {error.reason}.")
        return
    _show_recording(encoded, recording)
    try:
        with Client(address) as client:
            _show_prediction(client.predict(encoded))
            if recording.duration_sec > LONG_SEC:
                _show_timeline(list(client.timeline(encoded)))
    except ServerUnreachable:
        st.error(f"No server answers at {address}. Start one with `ser serve`, then try again.")
    except AudioError as error:
        st.error(f"This recording cannot be used: {error}.")
    except ServingError as error:
        st.error(f"The model cannot answer: {error}")


def _address() -> str:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default=DEFAULT_ADDRESS)
    return str(parser.parse_args().address)


def _choose_recording() -> bytes | None:
    upload, record = st.tabs(["Upload", "Record"])
    with upload:
        uploaded = st.file_uploader("A recording", type=[suffix[1:] for suffix in suffixes()])
    with record:
        recorded = st.audio_input("Your voice")
    chosen = uploaded or recorded
    return chosen.getvalue() if chosen else None


def _show_recording(encoded: bytes, recording: Recording) -> None:
    st.audio(encoded)
    st.caption(f"{recording.duration_sec:.1f} s at {recording.sample_rate_hz / 1000:g} kHz")
    st.image(_picture(_draw(recording)), caption="Waveform and mel spectrogram")


def _draw(recording: Recording) -> Figure:
    samples, rate_hz = recording.samples, recording.sample_rate_hz
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    step = max(1, len(samples) // _PLOT_POINTS)
    above.plot(np.arange(0, len(samples), step) / rate_hz, samples[::step], linewidth=0.5)
    above.set_ylabel("amplitude")
    mel = librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate_hz, n_mels=64), ref=np.max)
    below.imshow(mel, origin="lower", aspect="auto", extent=(0, recording.duration_sec, 0, len(mel)), cmap="magma")
    below.set_ylabel("mel band")
    below.set_xlabel("time (s)")
    return figure


def _picture(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    plt.close(figure)
    return file.getvalue()


def _show_prediction(prediction: Prediction) -> None:
    st.header(prediction.emotion)
    table = pd.DataFrame(prediction.probabilities.items(), columns=["emotion", "probability"])
    st.bar_chart(table, x="emotion", y="probability", horizontal=True, sort="-probability", x_label="", y_label="")
    if prediction.model_version is not None:
        st.caption(f"Model version {prediction.model_version}")


def _show_timeline(segments: list[Segment]) -> None:
    st.subheader("From window to window")
    middles_sec = [(segment.start_sec + segment.end_sec) / 2 for segment in segments]
    table = pd.DataFrame([segment.probabilities for segment in segments], index=middles_sec)
    st.line_chart(table, x_label="time (s)", y_label="probability")


main()
