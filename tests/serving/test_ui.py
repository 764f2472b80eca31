"""The web page in a real browser."""

import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import soundfile
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import needs_browser, start_browser

ROOT = Path(__file__).parents[2]

pytestmark = needs_browser


@pytest.fixture(scope="module")
def start_page(tmp_path_factory):
    """Function that starts ``ser ui`` for an address on a port and returns the page's URL."""
    processes = []

    def start(address, port):
        code = "from cli.main import main; main()"
        command = [sys.executable, "-c", code, "ui", "--address", address, "--port", str(port)]
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
        wait.until(lambda it: it.find_elements(By.CSS_SELECTOR, "input[type=file]"))[0].send_keys(str(tmp_path / name))
        for text in texts:
            wait.until(lambda it, text=text: text in it.find_element(By.TAG_NAME, "body").text)
        return browser.find_element(By.TAG_NAME, "body").text

    return run


def test_a_long_recording_shows_everything(upload, browser, speechlike, tmp_path):
    soundfile.write(tmp_path / "long.flac", speechlike(8.0), 48_000)
    text = upload(
        "a.flac",
        (tmp_path / "long.flac").read_bytes(),
        "Model version 3",
        "8.0 s at 48 kHz",
        "Waveform and mel spectrogram",
        "From window to window",
    )
    assert "cannot" not in text
    WebDriverWait(browser, 30).until(lambda it: len(it.find_elements(By.CSS_SELECTOR, "canvas, svg.marks")) >= 2)
    (picture,) = browser.find_elements(By.CSS_SELECTOR, "[data-testid=stImage] img")
    assert picture.get_property("naturalWidth") > 500


def test_a_short_recording_has_no_timeline(upload, wav_bytes):
    assert "From window to window" not in upload("a.wav", wav_bytes, "Model version 3")


def test_a_recording_of_the_microphone_is_answered(browser, page):
    browser.get(page)
    wait = WebDriverWait(browser, 60)

    def click(path):
        wait.until(expected_conditions.element_to_be_clickable((By.XPATH, path))).click()

    click("//*[@role='tab'][contains(., 'Record')]")
    click("//button[@aria-label='Record']")
    clock = browser.find_element(By.CSS_SELECTOR, "[data-testid=stAudioInputWaveformTimeCode]")
    wait.until(lambda _: clock.text >= "00:02")
    click("//button[@aria-label='Stop recording']")
    wait.until(lambda it: "Model version 3" in it.find_element(By.TAG_NAME, "body").text)
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
    soundfile.write(tmp_path / "quiet.wav", 1e-4 * speechlike(), 48_000)
    text = upload("a.wav", (tmp_path / "quiet.wav").read_bytes(), "AUDIO_SILENT: ")
    assert "Waveform and mel spectrogram" in text


def test_a_missing_server_shows_address_and_command(upload, start_page, unused_tcp_port_factory, wav_bytes):
    address = f"localhost:{unused_tcp_port_factory()}"
    url = start_page(address, unused_tcp_port_factory())
    text = upload("a.wav", wav_bytes, address, "ser serve", url=url)
    assert "Model version" not in text
