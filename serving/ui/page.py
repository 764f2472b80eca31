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
import re
from collections import Counter
from typing import Any, NamedTuple

import altair as alt
import pandas as pd
import streamlit as st

from modules.audio import formats
from modules.audio.decoding import WIDEST_LIMITS, BadAudio, Recording, decode, open_sound
from modules.common import addresses
from modules.export.contract import EXTRA_ASSETS, NO_SPEECH, NOT_SURE
from modules.reporting.model_card import JSON_FILE, LIMITS, MARKDOWN_FILE
from serving.client import (
    AudioError,
    Client,
    ModelNotFound,
    Prediction,
    RequestFailed,
    Segment,
    ServerUnreachable,
    ServingError,
)
from serving.client.parts import LONGEST_WHOLE_SEC
from serving.client.recordings import name_of, to_wav
from serving.client.segments import segments_of, whole
from serving.ui import sessions
from serving.ui.picture import INK, colour_of, picture

_CARD_GUIDE = "https://modelcards.withgoogle.com/about"
_CACHED_ANSWERS = 32
_CACHE_SEC = 600
_MOST_SAMPLES = 24
_LONGEST_NAME = 40  # in the table
_PICTURES_IN = {"desk": 9.0, "phone": 4.5}  # widths in inches, so that text is legible on both
_BAR_PX = 24
_ONE_PICTURE = (
    "<style>@media (max-width: 600px) { .desk { display: none } }"
    "@media (min-width: 601px) { .phone { display: none } }</style>"
)
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
    try:
        answers = [(sound, _answer_or_error(options.address, sound, channel)) for sound in sounds]
    except (ServerUnreachable, ModelNotFound) as error:
        _show_no_model(options.address, error)
        return
    _show_card(options.model_base_path, [answer for _, answer in answers if isinstance(answer, Answer)])
    chosen = _choose_result(answers) if len(answers) > 1 else 0
    _show(*answers[chosen], channel)
    _offer_downloads(answers)


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
    return _numbered(given[st.session_state.get("source", "upload")] or next(filter(None, given.values()), []))


def _numbered(sounds: list[Sound]) -> list[Sound]:
    """Return the recordings with different names: of equal names the second ends in (2), and so on."""
    seen: Counter[str] = Counter()
    numbered = []
    for sound in sounds:
        seen[sound.name] += 1
        numbered.append(sound._replace(name=f"{sound.name} ({seen[sound.name]})") if seen[sound.name] > 1 else sound)
    return numbered


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


def _answer_or_error(address: str, sound: Sound, channel: int | None) -> Answer | ServingError:
    try:
        with st.spinner(f"Analysing {_literal(sound.name)} ...", show_time=True):
            return _answer(address, sound.content, channel)
    except (ServerUnreachable, ModelNotFound):
        raise  # not about this recording
    except ServingError as error:
        return error


def _reason(sound: Sound, error: ServingError) -> str:
    """Return the text of the error, without the client's name for bytes."""
    return str(error).removeprefix(f"{name_of(sound.content)}: ")


def _show_no_model(address: str, error: RequestFailed) -> None:
    """Show that no recording has an answer, and how to get one."""
    if isinstance(error, ModelNotFound):
        why = _literal(error.details)
        st.error(f"The server at `{address}` has no model yet: {why}. Push one, or wait until it is loaded.")
    else:
        st.error(f"No server answers at `{address}`. Start one with `ser serve`, then try again.")
    st.button("Try again")


@st.cache_data(max_entries=_CACHED_ANSWERS, ttl=_CACHE_SEC, show_spinner=False)
def _answer(address: str, content: bytes, channel: int | None) -> Answer:
    with Client(address) as client:
        windows = list(client.timeline(content, channel=channel))
        in_parts = windows[-1].end_sec > LONGEST_WHOLE_SEC  # then these windows are the client's answer
        prediction = whole(windows) if in_parts else client.predict(content, channel=channel)
        return Answer(prediction, list(segments_of(windows)), windows)


def _literal(text: str) -> str:
    """Return Markdown that shows the text as it is, such as the name of a file."""
    return re.sub(r"([!-/:-@[-`{-~])", r"\\\1", text)


def _note(text: str) -> None:
    """Show small text, in the colour of all text: Streamlit's captions are too pale to read."""
    st.markdown(f":small[{text}]")


def _show_card(model_base_path: str, answers: list[Answer]) -> None:
    """Show the limits of the model that answered, from its card where this machine can read it."""
    if not answers:
        return
    version = max(answer.prediction.model_version or 0 for answer in answers)
    folder = posixpath.join(model_base_path, str(version), EXTRA_ASSETS)
    try:
        limits = json.loads(addresses.read_bytes(posixpath.join(folder, JSON_FILE)))["limits"]
        card = addresses.read_bytes(posixpath.join(folder, MARKDOWN_FILE)).decode()
    except (OSError, ValueError, KeyError):
        _note(f"**About this model.** {LIMITS[0]} [About model cards]({_CARD_GUIDE})")
        return
    _note(f"**About this model.** {limits[0]}")
    with st.expander("Model card"):
        st.markdown(card)


def _choose_result(answers: list[tuple[Sound, Answer | ServingError]]) -> int:
    """Show a row for each recording, and return the number of the one to show in full."""
    st.subheader(f"{len(answers)} recordings")
    st.table(pd.DataFrame([_row(sound, answer) for sound, answer in answers]).set_index("recording"))
    names = [sound.name for sound, _ in answers]
    return st.selectbox("Recording", range(len(names)), format_func=names.__getitem__)


def _row(sound: Sound, answer: Answer | ServingError) -> dict[str, str]:
    return {
        "recording": _literal(_shortened(sound.name)),
        "answer": _in_words(answer.prediction) if isinstance(answer, Answer) else _reason(sound, answer),
    }


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 2]}…{name[-_LONGEST_NAME // 2 :]}"


def _in_words(prediction: Prediction) -> str:
    """Return the answer and its probability, which an answer that is not an emotion does not have."""
    probability = prediction.probabilities.get(prediction.emotion)
    return prediction.emotion.replace("_", " ") + ("" if probability is None else f" {probability:.0%}")


def _show(sound: Sound, answer: Answer | ServingError, channel: int | None) -> None:
    st.subheader(_literal(sound.name))
    try:
        recording = _decode(sound.content, channel)
    except BadAudio as error:
        st.error(f"This recording cannot be used: {error.reason}.")
        return
    segments = []
    if isinstance(answer, Answer):
        segments = answer.segments
        _show_prediction(answer.prediction)
    else:
        what = "This recording cannot be used" if isinstance(answer, AudioError) else "The model cannot answer"
        st.error(f"{what}: {_reason(sound, answer)}.")
    st.audio(sound.content)
    _note(f"{recording.duration_sec:.1f} s at {recording.sample_rate_hz / 1000:g} kHz")
    _show_picture(recording, segments)
    if segments:
        _show_segments(sound, segments)


@st.cache_data(max_entries=_CACHED_ANSWERS, ttl=_CACHE_SEC, show_spinner=False)
def _decode(content: bytes, channel: int | None) -> Recording:
    return decode(to_wav(content, channel=channel) if channel else content, WIDEST_LIMITS, allow_silence=True)


def _show_prediction(prediction: Prediction) -> None:
    st.header(_in_words(prediction))
    if prediction.emotion == NO_SPEECH:
        _note(f"Probability of speech: {prediction.speech or 0:.0%}")
    else:
        _show_probabilities(prediction)
    if prediction.model_version is not None:
        _note(f"Model version {prediction.model_version}")


def _show_probabilities(prediction: Prediction) -> None:
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
    texts = base.mark_text(align="left", dx=4, color=INK[_theme()]).encode(text="percent:N")
    st.altair_chart((bars + texts).properties(height=alt.Step(_BAR_PX)))


def _show_picture(recording: Recording, segments: list[Segment]) -> None:
    emotions = ", ".join(f"{segment.emotion.replace('_', ' ')} to {segment.end_sec:.1f} s" for segment in segments)
    description = f"Waveform and spectrogram of {recording.duration_sec:.1f} s. {emotions}"
    # st.image has no text for those who cannot see it.
    images = [
        f'<img class="{name}" alt="{html.escape(description)}" style="width: 100%" src="data:image/png;base64,'
        f'{base64.b64encode(picture(recording, segments, theme=_theme(), width_in=width_in)).decode()}">'
        for name, width_in in _PICTURES_IN.items()
    ]
    st.html(_ONE_PICTURE + "".join(images))
    _note("Waveform, emotions and mel spectrogram" if segments else "Waveform and mel spectrogram")


def _theme() -> str:
    return st.context.theme.type or "light"


def _show_segments(sound: Sound, segments: list[Segment]) -> None:
    """Show a button for each segment, which plays it."""
    st.subheader("Segments")
    digest = hashlib.sha256(sound.content).hexdigest()
    with st.container(height=_LIST_HEIGHT if len(segments) > _SHORT_LIST else "content", border=False):
        for number, segment in enumerate(segments):
            label = f"{segment.start_sec:.1f} to {segment.end_sec:.1f} s: {_in_words(segment)}"
            if st.button(label, key=f"{digest} {number}", icon=":material/play_arrow:"):
                st.audio(sound.content, start_time=segment.start_sec, end_time=segment.end_sec, autoplay=True)


def _offer_downloads(answers: list[tuple[Sound, Answer | ServingError]]) -> None:
    if not any(isinstance(answer, Answer) for _, answer in answers):
        return
    left, right = st.columns(2)
    left.download_button("CSV of all windows", _as_csv(answers), "emotions.csv", "text/csv")
    right.download_button("JSON with segments", _as_json(answers), "emotions.json", "application/json")


def _as_csv(answers: list[tuple[Sound, Answer | ServingError]]) -> str:
    """Return a row for each window or error, with the columns of ``ser predict --timeline --csv``."""
    file = io.StringIO()
    emotions = next(answer.prediction.probabilities for _, answer in answers if isinstance(answer, Answer))
    names = ["file", "start_sec", "end_sec", "emotion", *emotions, "speech", "model_version", "error", "message"]
    writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for sound, answer in answers:
        if isinstance(answer, Answer):
            windows = [dataclasses.asdict(window) | window.probabilities for window in answer.windows]
        else:
            windows = [{"error": answer.code, "message": _reason(sound, answer)}]
        writer.writerows({"file": sound.name} | window for window in windows)
    return file.getvalue()


def _as_json(answers: list[tuple[Sound, Answer | ServingError]]) -> str:
    """Return an object for each recording: the fields of ``ser predict --json``, and its segments."""
    objects: list[dict[str, Any]] = []
    for sound, answer in answers:
        if isinstance(answer, Answer):
            segments = [dataclasses.asdict(segment) for segment in answer.segments]
            found = dataclasses.asdict(answer.prediction) | {"segments": segments}
        else:
            found = {"error": {"code": answer.code, "message": _reason(sound, answer)}}
        objects.append({"file": sound.name} | found)
    return json.dumps(objects, indent=2)


main()
