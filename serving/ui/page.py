"""Streamlit script of the page. Streamlit runs it from top to bottom whenever something on the page changes.

Requests go through the client, so that the page works with every address that the client supports.
"""

import argparse
import base64
import csv
import dataclasses
import hashlib
import html
import io
import json
import posixpath
from typing import NamedTuple

import altair as alt
import pandas as pd
import streamlit as st

from modules.audio import formats
from modules.audio.decoding import WIDEST_LIMITS, BadAudio, Recording, decode, open_sound
from modules.common import addresses
from modules.export.contract import EXTRA_ASSETS, NO_SPEECH, NOT_SURE
from modules.reporting.model_card import JSON_FILE, LIMITS, MARKDOWN_FILE
from serving.client import AudioError, Client, Prediction, Segment, ServerUnreachable, ServingError
from serving.client.segments import segments_of
from serving.ui import sessions
from serving.ui.picture import INK, colour_of, picture

_CARD_GUIDE = "https://modelcards.withgoogle.com/about"
_CACHED_ANSWERS = 32
_CACHE_SEC = 600
_MOST_SAMPLES = 24
_SHORT_LIST, _LIST_HEIGHT = 8, 380  # segments; pixels


class Sound(NamedTuple):
    """A recording that someone uploaded or recorded."""

    name: str
    content: bytes


@dataclasses.dataclass(frozen=True)
class Answer:
    """Answer of the model to a recording."""

    prediction: Prediction
    segments: list[Segment]
    windows: list[Segment]


def main() -> None:
    """Draw the page."""
    options = _options()
    st.set_page_config(page_title="Speech emotion", page_icon="🎙️")
    st.title("Speech emotion")
    if not sessions.admit(limit := options.max_sessions):
        st.error(f"Sessions in use: {limit} of {limit}. Try again when another tab is closed.")
        st.button("Try again")
        return
    _note(f"Model: `{options.address}`")
    sounds = _choose(options.samples)
    if not sounds:
        st.info("Upload recordings, record one or choose a sample to begin.")
        return
    channel = _choose_channel(sounds)
    answers = [(sound, _answer_or_error(options.address, sound, channel)) for sound in sounds]
    _show_card(options.model_base_path, [answer for _, answer in answers if isinstance(answer, Answer)])
    chosen = _choose_result(answers) if len(answers) > 1 else 0
    _show(*answers[chosen], channel)
    _offer_downloads([(sound.name, answer) for sound, answer in answers if isinstance(answer, Answer)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--model-base-path", required=True)
    parser.add_argument("--samples", required=True)
    parser.add_argument("--max-sessions", type=int, required=True)
    return parser.parse_args()


def _choose(samples: str) -> list[Sound]:
    """Return the recordings of whichever input changed last."""

    def changed(source: str) -> None:
        st.session_state["source"] = source

    upload, record, sample = st.tabs(["Upload", "Record", "Samples"])
    with upload:
        uploads = st.file_uploader(
            "Recordings",
            type=[suffix[1:] for suffix in formats.suffixes()],
            accept_multiple_files=True,
            on_change=changed,
            args=("upload",),
        )
    with record:
        recorded = st.audio_input("Your voice", on_change=changed, args=("record",))
    with sample:
        paths = _sample_paths(samples)
        path = st.selectbox(
            "Recording to try",
            paths,
            index=None,
            on_change=changed,
            args=("sample",),
            placeholder="Choose a recording" if paths else f"{samples} has none; start `ser ui --samples FOLDER`",
        )
    given = {
        "upload": [Sound(upload.name, upload.getvalue()) for upload in uploads],
        "record": [Sound("recording", recorded.getvalue())] if recorded else [],
        "sample": [Sound(path, addresses.read_bytes(posixpath.join(samples, path)))] if path else [],
    }
    return given[st.session_state.get("source", "upload")] or next(filter(None, given.values()), [])


@st.cache_data(ttl=_CACHE_SEC, show_spinner=False)
def _sample_paths(folder: str) -> list[str]:
    """Return recordings of a folder, relative to it; of many, some of all parts of it."""
    paths = [path for path in addresses.files(folder) if formats.is_sound(path)] if addresses.is_folder(folder) else []
    return paths[:: max(1, len(paths) // _MOST_SAMPLES)][:_MOST_SAMPLES]


def _choose_channel(sounds: list[Sound]) -> int | None:
    """Let the user choose a channel, where a recording has several."""
    channels = max(map(_channels, sounds))
    if channels < 2:
        return None
    return st.selectbox(
        "Channel", [None, *range(1, channels + 1)], format_func=lambda channel: str(channel or "mean of all")
    )


def _channels(sound: Sound) -> int:
    try:
        with open_sound(sound.content, WIDEST_LIMITS) as file:
            return int(file.channels)
    except BadAudio:
        return 1


def _answer_or_error(address: str, sound: Sound, channel: int | None) -> Answer | str:
    try:
        with st.spinner(f"Analysing {sound.name} ..."):
            return _answer(address, sound.content, channel)
    except ServerUnreachable:
        return f"No server answers at {address}. Start one with `ser serve`, then try again."
    except AudioError as error:
        return f"This recording cannot be used: {error}."
    except ServingError as error:
        return f"The model cannot answer: {error}"


@st.cache_data(max_entries=_CACHED_ANSWERS, ttl=_CACHE_SEC, show_spinner=False)
def _answer(address: str, content: bytes, channel: int | None) -> Answer:
    with Client(address) as client:
        windows = list(client.timeline(content, channel=channel))
        return Answer(client.predict(content, channel=channel), list(segments_of(windows)), windows)


def _note(text: str) -> None:
    """Show small text, in the colour of all text: Streamlit's captions are too pale to read."""
    st.markdown(f":small[{text}]")


def _show_card(model_base_path: str, answers: list[Answer]) -> None:
    """Show the limits of the model, from its card where this machine can read it."""
    version = max((answer.prediction.model_version or 0 for answer in answers), default=0)
    folder = posixpath.join(model_base_path, str(version), EXTRA_ASSETS)
    try:
        limits = json.loads(addresses.read_bytes(posixpath.join(folder, JSON_FILE)))["limits"]
        card = addresses.read_bytes(posixpath.join(folder, MARKDOWN_FILE)).decode()
    except (OSError, ValueError, KeyError):
        _note(f"{LIMITS[0]} [About model cards]({_CARD_GUIDE})")
        return
    _note(limits[0])
    with st.expander("Model card"):
        st.markdown(card)


def _choose_result(answers: list[tuple[Sound, Answer | str]]) -> int:
    """Show a row for each recording, and return the number of the one to show in full."""
    st.subheader(f"{len(answers)} recordings")
    st.table(pd.DataFrame([_row(sound, answer) for sound, answer in answers]).set_index("recording"))
    names = [sound.name for sound, _ in answers]
    return st.selectbox("Recording", range(len(names)), format_func=names.__getitem__)


def _row(sound: Sound, answer: Answer | str) -> dict[str, str]:
    if isinstance(answer, str):
        return {"recording": sound.name, "emotion": "none", "probability": "", "remark": answer}
    emotion, share = answer.prediction.emotion, _share(answer.prediction)
    return {"recording": sound.name, "emotion": emotion, "probability": share, "remark": ""}


def _share(prediction: Prediction) -> str:
    """Return the probability of the answer; empty for an answer that is not an emotion."""
    probability = prediction.probabilities.get(prediction.emotion)
    return "" if probability is None else f"{probability:.0%}"


def _show(sound: Sound, answer: Answer | str, channel: int | None) -> None:
    st.subheader(sound.name)
    try:
        recording = _decode(sound.content, channel)
    except BadAudio as error:
        st.error(f"This recording cannot be used: {error.reason}.")
        return
    if isinstance(answer, str):
        st.error(answer)
    else:
        _show_prediction(answer.prediction)
    segments = answer.segments if isinstance(answer, Answer) else []
    st.audio(sound.content)
    _note(f"{recording.duration_sec:.1f} s at {recording.sample_rate_hz / 1000:g} kHz")
    _show_picture(recording, segments)
    if segments:
        _show_segments(sound, segments)


@st.cache_data(max_entries=_CACHED_ANSWERS, ttl=_CACHE_SEC, show_spinner=False)
def _decode(content: bytes, channel: int | None) -> Recording:
    from serving.client.recordings import to_wav

    return decode(to_wav(content, channel=channel) if channel else content, WIDEST_LIMITS, allow_silence=True)


def _show_prediction(prediction: Prediction) -> None:
    st.header(prediction.emotion.replace("_", " "))
    if prediction.emotion == NO_SPEECH:
        _note(f"Probability of speech: {prediction.speech or 0:.0%}")
    if prediction.emotion == NOT_SURE:
        _note(
            f"The most probable emotion has {prediction.confidence:.0%}; the model names one from "
            f"{prediction.min_confidence:.0%}."
        )
    table = pd.DataFrame(prediction.probabilities.items(), columns=["emotion", "probability"])
    table = table.sort_values("probability", ascending=False)
    table["percent"] = [f"{value:.0%}" for value in table["probability"]]
    base = alt.Chart(table).encode(
        y=alt.Y("emotion:N", sort=list(table["emotion"]), title=None),
        x=alt.X("probability:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"), title=None),
    )
    colours = [colour_of(emotion) for emotion in table["emotion"]]
    bars = base.mark_bar().encode(
        color=alt.Color("emotion:N", scale=alt.Scale(domain=list(table["emotion"]), range=colours), legend=None)
    )
    st.altair_chart(bars + base.mark_text(align="left", dx=4, color=INK[_theme()]).encode(text="percent:N"))
    if prediction.model_version is not None:
        _note(f"Model version {prediction.model_version}")


def _show_picture(recording: Recording, segments: list[Segment]) -> None:
    encoded = base64.b64encode(picture(recording, segments, theme=_theme())).decode()
    emotions = ", ".join(f"{segment.emotion} to {segment.end_sec:.1f} s" for segment in segments)
    description = f"Waveform and spectrogram of {recording.duration_sec:.1f} s. {emotions}"
    # st.image has no text for those who cannot see it.
    st.html(f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}" style="width: 100%">')
    _note("Waveform, emotions and mel spectrogram")


def _theme() -> str:
    return st.context.theme.type or "light"


def _show_segments(sound: Sound, segments: list[Segment]) -> None:
    """Show a button for each segment, which plays it."""
    st.subheader("Segments")
    digest = hashlib.sha256(sound.content).hexdigest()
    with st.container(height=_LIST_HEIGHT if len(segments) > _SHORT_LIST else "content", border=False):
        for number, segment in enumerate(segments):
            label = f"{segment.start_sec:.1f} to {segment.end_sec:.1f} s: {segment.emotion} {_share(segment)}"
            if st.button(label, key=f"{digest} {number}", icon=":material/play_arrow:"):
                st.audio(sound.content, start_time=segment.start_sec, end_time=segment.end_sec, autoplay=True)


def _offer_downloads(answers: list[tuple[str, Answer]]) -> None:
    if not answers:
        return
    left, right = st.columns(2)
    left.download_button("CSV of all windows", _as_csv(answers), "emotions.csv", "text/csv")
    right.download_button("JSON with segments", _as_json(answers), "emotions.json", "application/json")


def _as_csv(answers: list[tuple[str, Answer]]) -> str:
    """Return a row for each window, with the columns of ``ser predict --timeline --csv``."""
    file = io.StringIO()
    emotions = list(answers[0][1].prediction.probabilities)
    names = ["file", "start_sec", "end_sec", "emotion", *emotions, "speech", "model_version"]
    writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for name, answer in answers:
        for window in answer.windows:
            writer.writerow({"file": name} | dataclasses.asdict(window) | window.probabilities)
    return file.getvalue()


def _as_json(answers: list[tuple[str, Answer]]) -> str:
    """Return an object for each recording: the fields of ``ser predict --json`` and its segments."""
    objects = []
    for name, answer in answers:
        segments = {"segments": [dataclasses.asdict(segment) for segment in answer.segments]}
        objects.append({"file": name} | dataclasses.asdict(answer.prediction) | segments)
    return json.dumps(objects, indent=2)


main()
