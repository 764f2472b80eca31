"""The web page in a real browser."""

import csv
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from serving.client import Client
from tests.browser import needs_browser, serious_findings, start_browser
from tests.paths import RAVDESS_RATE_HZ

ROOT = Path(__file__).parents[2]

pytestmark = needs_browser


@pytest.fixture(scope="module")
def start_page(tmp_path_factory):
    """Function that starts ``ser ui`` for an address on a port and returns the page's URL."""
    processes = []

    def start(address, port, *words):
        code = "from cli.main import main; main()"
        command = [sys.executable, "-c", code, "ui", "--address", address, "--port", str(port), *words]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not answers(url):
            assert time.monotonic() < deadline, "the page did not start"
            time.sleep(0.2)
        return url

    yield start
    for process in processes:
        process.terminate()
        process.wait()


def answers(url):
    try:
        return httpx.get(f"{url}/_stcore/health").is_success
    except httpx.TransportError:
        return False


def wait_until_drawn(driver):
    """Wait until the page's script has ended: it draws a part of the page at a time."""
    found(driver, By.CSS_SELECTOR, "[data-testid=stApp][data-test-script-state=notRunning]")


def found(driver, by, selector):
    """Return the elements, once there are any: a browser loads the code of some kinds when it first needs them."""
    return WebDriverWait(driver, 60).until(lambda it: it.find_elements(by, selector))


@pytest.fixture(scope="module")
def browser(wav_bytes, tmp_path_factory):
    """A browser with a file as its microphone, and permission to use it."""
    sound = tmp_path_factory.mktemp("microphone") / "sound.wav"
    sound.write_bytes(wav_bytes)
    microphone = ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")
    driver = start_browser("window-size=1000,1900", *microphone, f"use-file-for-fake-audio-capture={sound}")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(start_page, shared_server, unused_tcp_port_factory):
    return start_page(shared_server.address, unused_tcp_port_factory())


@pytest.fixture
def upload(browser, page, tmp_path):
    """Function that opens the page, uploads a file, and waits for texts."""

    def run(name, content, *texts, url=page):
        (tmp_path / name).write_bytes(content)
        browser.get(url)
        wait = WebDriverWait(browser, 60)
        found(browser, By.CSS_SELECTOR, "input[type=file]")[0].send_keys(str(tmp_path / name))
        for text in texts:
            wait.until(lambda it, text=text: text in it.find_element(By.TAG_NAME, "body").text)
        wait_until_drawn(browser)
        return browser.find_element(By.TAG_NAME, "body").text

    return run


@pytest.fixture(scope="module")
def joined(ravdess):
    """Several sentences of one speaker, as FLAC, and its duration in seconds."""
    clips = [soundfile.read(clip, dtype="float32")[0] for clip in sorted(ravdess.glob("Actor_01/*.flac"))[::9][:5]]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(clips), RAVDESS_RATE_HZ, format="FLAC")
    return file.getvalue(), sum(map(len, clips)) / RAVDESS_RATE_HZ


def test_a_recording_shows_everything(upload, browser, joined):
    content, duration_sec = joined
    text = upload(
        "a.flac", content, "Model version 3", f"{duration_sec:.1f} s at 22.05 kHz", "Segments", "CSV of all windows"
    )
    assert "cannot" not in text
    found(browser, By.CSS_SELECTOR, "canvas, svg.marks")
    picture = visible_picture(browser)
    assert picture.get_property("naturalWidth") > 500
    assert picture.get_property("alt").startswith(f"Waveform and spectrogram of {duration_sec:.1f} s.")


def visible_picture(driver):
    """Return the one picture of the recording that fits the screen."""
    pictures = found(driver, By.CSS_SELECTOR, "[data-testid=stHtml] img")
    (picture,) = [each for each in pictures if each.is_displayed()]
    return picture


def test_the_answer_to_a_long_recording_is_that_of_the_client(upload, shared_server, joined):
    samples, rate_hz = soundfile.read(io.BytesIO(joined[0]), dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, np.resize(samples, 125 * rate_hz), rate_hz, format="FLAC")
    with Client(shared_server.address) as client:
        answer = client.predict(file.getvalue())
    upload("a.flac", file.getvalue(), f"{answer.emotion} {answer.confidence:.0%}", "125.0 s at 22.05 kHz")


def test_a_segment_plays_when_it_is_clicked(upload, browser, joined):
    upload("a.flac", joined[0], "Segments")
    (button, *_) = found(browser, By.XPATH, "//button[contains(., ' to ') and contains(., ' s: ')]")
    start_sec, end_sec = re.search(r"([\d.]+) to ([\d.]+) s: ", button.text).groups()
    before = len(found(browser, By.TAG_NAME, "audio"))
    button.click()
    WebDriverWait(browser, 60).until(lambda it: len(it.find_elements(By.TAG_NAME, "audio")) == before + 1)
    assert start_sec == "0.0"
    assert float(end_sec) > 0


def test_several_recordings_have_a_table_and_a_choice(browser, page, wav_bytes, joined, tmp_path):
    contents = {"a.wav": wav_bytes, "text.wav": b"not sound", "b.flac": joined[0]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    browser.get(page)
    wait = WebDriverWait(browser, 60)
    (field,) = found(browser, By.CSS_SELECTOR, "input[type=file]")
    field.send_keys("\n".join(str(tmp_path / name) for name in contents))
    wait.until(lambda it: "3 recordings" in it.find_element(By.TAG_NAME, "body").text)
    wait_until_drawn(browser)
    rows = [row.text for row in found(browser, By.CSS_SELECTOR, "[data-testid=stTable] tbody tr")]
    assert [row.split()[0] for row in rows] == list(contents)
    assert "AUDIO_UNREADABLE: a text file" in rows[1]
    assert found(browser, By.CSS_SELECTOR, "input[aria-label=Recording]")


def test_names_are_shown_as_they_are_and_equal_ones_are_numbered(browser, page, wav_bytes, tmp_path):
    name = "ä <b>b<b> $x$ *y* [l](u).wav"
    paths = [tmp_path / folder / name for folder in ("first", "second")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(wav_bytes)
    browser.get(page)
    found(browser, By.CSS_SELECTOR, "input[type=file]")[0].send_keys("\n".join(map(str, paths)))
    found(browser, By.XPATH, "//h3[starts-with(., '2 recordings')]")
    wait_until_drawn(browser)
    rows = [row.text for row in found(browser, By.CSS_SELECTOR, "[data-testid=stTable] tbody th")]
    assert rows == [name, f"{name} (2)"]
    assert found(browser, By.XPATH, f"//h3[starts-with(., '{name}')]")


def test_downloads_hold_answers_and_errors(browser, page, wav_bytes, tmp_path):
    for name, content in {"a.wav": wav_bytes, "text.wav": b"not sound"}.items():
        (tmp_path / name).write_bytes(content)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get(page)
    paths = [str(tmp_path / name) for name in ("a.wav", "text.wav")]
    found(browser, By.CSS_SELECTOR, "input[type=file]")[0].send_keys("\n".join(paths))
    wait = WebDriverWait(browser, 60)
    for label, name in (("CSV of all windows", "emotions.csv"), ("JSON with segments", "emotions.json")):
        button = (By.XPATH, f"//button[contains(., '{label}')]")
        wait.until(expected_conditions.element_to_be_clickable(button))
        wait_until_drawn(browser)
        browser.find_element(*button).click()
        wait.until(lambda _, name=name: (tmp_path / name).exists())
    *windows, error = csv.DictReader((tmp_path / "emotions.csv").read_text().splitlines())
    assert {row["file"] for row in windows} == {"a.wav"}
    assert (error["file"], error["error"]) == ("text.wav", "AUDIO_UNREADABLE")
    answered, unusable = json.loads((tmp_path / "emotions.json").read_text())
    assert answered["segments"]
    assert unusable["error"]["code"] == "AUDIO_UNREADABLE"


def test_a_channel_can_be_chosen_where_channels_cancel(upload, browser, speechlike, tmp_path):
    soundfile.write(tmp_path / "stereo.wav", speechlike()[:, np.newaxis] * np.array([[1, -1]]), 48_000)
    upload("a.wav", (tmp_path / "stereo.wav").read_bytes(), "AUDIO_CHANNELS_CANCEL")
    (channel,) = found(browser, By.XPATH, "//input[contains(@aria-label, 'Channel')]")
    channel.click()
    wait = WebDriverWait(browser, 60)
    wait.until(expected_conditions.element_to_be_clickable((By.XPATH, "//*[@role='option'][. = '2']"))).click()
    wait.until(lambda it: "Model version 3" in it.find_element(By.TAG_NAME, "body").text)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing_serious(upload, browser, joined, mode):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    )
    try:
        upload("a.flac", joined[0], "Segments", "JSON with segments")
        found(browser, By.CSS_SELECTOR, "canvas, svg.marks")
        assert serious_findings(browser) == []
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_page_fits_a_phone_in_the_dark(upload, browser, joined):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        upload("a.flac", joined[0], "Segments", "JSON with segments")
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 390
        picture = visible_picture(browser)
        assert picture.rect["width"] / picture.get_property("naturalWidth") > 0.6, "its text is legible"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_sample_is_answered(browser, start_page, shared_server, unused_tcp_port_factory, wav_bytes, tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "first.wav").write_bytes(wav_bytes)
    port = unused_tcp_port_factory()
    browser.get(start_page(shared_server.address, port, "--samples", str(tmp_path / "samples")))
    wait = WebDriverWait(browser, 60)
    for path in (
        "//*[@role='tab'][contains(., 'Samples')]",
        "//input[@aria-label='Recording to try']",
        "//*[@role='option'][. = 'first.wav']",
    ):
        wait.until(expected_conditions.element_to_be_clickable((By.XPATH, path))).click()
    wait.until(lambda it: "Model version 3" in it.find_element(By.TAG_NAME, "body").text)


def test_a_recording_of_the_microphone_is_answered_after_an_upload(upload, browser, wav_bytes):
    upload("a.wav", wav_bytes, "3.0 s at 48 kHz")  # the newer input is answered
    wait = WebDriverWait(browser, 60)

    def click(path):
        wait.until(expected_conditions.element_to_be_clickable((By.XPATH, path))).click()

    click("//*[@role='tab'][contains(., 'Record')]")
    click("//button[@aria-label='Record']")
    (clock,) = found(browser, By.CSS_SELECTOR, "[data-testid=stAudioInputWaveformTimeCode]")
    wait.until(lambda _: clock.text >= "00:02")
    click("//button[@aria-label='Stop recording']")
    wait.until(lambda it: "s at 16 kHz" in it.find_element(By.TAG_NAME, "body").text)
    wait_until_drawn(browser)
    text = browser.find_element(By.TAG_NAME, "body").text
    recorded_sec = float(re.search(r"([\d.]+) s at 16 kHz", text)[1])
    assert recorded_sec >= 2
    assert "cannot" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not sound", "AUDIO_UNREADABLE: "), (b"", "AUDIO_EMPTY: ")],
)
def test_bad_audio_shows_its_code(upload, content, message):
    assert "Model version" not in upload("a.wav", content, message)


def test_an_unusable_recording_is_drawn_and_explained(upload, speechlike, tmp_path):
    soundfile.write(tmp_path / "brief.wav", speechlike(0.05), 48_000)
    text = upload("a.wav", (tmp_path / "brief.wav").read_bytes(), "used: AUDIO_TOO_SHORT: ", "Waveform and mel")
    assert "Model version" not in text


def test_silence_has_no_speech(upload, browser, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(96_000), 48_000)
    text = upload("a.wav", (tmp_path / "silent.wav").read_bytes(), "Probability of speech: 0%", "Waveform, emotions")
    assert "Model version" in text
    assert not browser.find_elements(By.CSS_SELECTOR, "canvas, svg.marks"), "no emotion has a probability"


def test_a_session_above_the_limit_waits_until_another_is_closed(browser, start_page, unused_tcp_port_factory):
    url = start_page("localhost:1", unused_tcp_port_factory(), "--max-sessions", "1")
    wait = WebDriverWait(browser, 60)
    browser.get(url)
    found(browser, By.CSS_SELECTOR, "input[type=file]")
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    browser.get(url)
    try_again = (By.XPATH, "//button[contains(., 'Try again')]")
    wait.until(expected_conditions.element_to_be_clickable(try_again)).click()
    assert "Sessions in use: 1 of 1." in browser.find_element(By.TAG_NAME, "body").text
    assert not browser.find_elements(By.CSS_SELECTOR, "input[type=file]")
    browser.switch_to.window(first)
    browser.close()
    browser.switch_to.window(second)

    def admitted(driver):
        for button in driver.find_elements(*try_again):
            button.click()
        return driver.find_elements(By.CSS_SELECTOR, "input[type=file]")

    WebDriverWait(browser, 60, ignored_exceptions=[StaleElementReferenceException]).until(admitted)
    assert "in use" not in browser.find_element(By.TAG_NAME, "body").text


def test_a_missing_server_shows_address_and_command_until_there_is_one(
    upload, browser, start_page, unused_tcp_port_factory, run_server, push, wav_bytes, tmp_path
):
    port = unused_tcp_port_factory()
    url = start_page(f"localhost:{port}", unused_tcp_port_factory())
    text = upload("a.wav", wav_bytes, f"No server answers at localhost:{port}", "ser serve", "Try again", url=url)
    assert "Waveform" not in text
    push(tmp_path / "serving", 4)
    server = run_server(model_base_path=tmp_path / "serving", port=port)
    try:
        browser.find_element(By.XPATH, "//button[contains(., 'Try again')]").click()
        WebDriverWait(browser, 60).until(lambda it: "Model version 4" in it.find_element(By.TAG_NAME, "body").text)
    finally:
        server.stop()


def test_a_server_without_the_model_is_named_once(
    upload, start_page, unused_tcp_port_factory, run_server, push, wav_bytes, tmp_path
):
    push(tmp_path / "serving", 4)
    server = run_server(model_base_path=tmp_path / "serving", model_name="other")
    try:
        url = start_page(server.address, unused_tcp_port_factory())
        text = upload("a.wav", wav_bytes, f"The server at {server.address} has no model", "Try again", url=url)
        assert "this server has other" in text
        assert "Waveform" not in text
    finally:
        server.stop()
