"""Remake the pictures of the documentation: ``python -m tests.screenshots --root output --recording meeting.wav``.

The root holds a finished run with a pushed model.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import httpx
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from serving.server.subprocess_server import served
from tests.browser import start_browser
from tests.paths import ROOT

IMAGES = ROOT / "docs" / "images"
PORT = 8511
WIDTH, REPORT_HEIGHT = 1000, 1400
STARTED_SEC, DRAWN_SEC = 60, 60


def main() -> None:
    """Write ``docs/images/report.png`` and ``docs/images/ui.png``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("output"))
    parser.add_argument("--recording", type=Path, required=True)
    options = parser.parse_args()
    browser = start_browser(f"window-size={WIDTH},{REPORT_HEIGHT}")
    try:
        browser.get((options.root / "report.html").resolve().as_uri())
        browser.save_screenshot(IMAGES / "report.png")
        with served(str((options.root / "serving").resolve()), timeout_sec=STARTED_SEC) as address:
            draw_page(browser, address, options.root, options.recording)
    finally:
        browser.quit()


def draw_page(browser: webdriver.Chrome, address: str, root: Path, recording: Path) -> None:
    """Write the picture of the page with the answer to the recording, in a window of its height."""
    words = ["ui", "--address", address, "--port", str(PORT), "--model-base-path", str((root / "serving").resolve())]
    page = subprocess.Popen([sys.executable, "-c", "from cli.main import main; main()", *words], cwd=ROOT)
    try:
        _wait_until_started(f"http://127.0.0.1:{PORT}")
        browser.get(f"http://127.0.0.1:{PORT}")
        wait = WebDriverWait(browser, DRAWN_SEC)
        field = wait.until(lambda it: it.find_elements(By.CSS_SELECTOR, "input[type=file]"))[0]
        field.send_keys(str(recording.resolve()))
        wait.until(lambda it: it.find_elements(By.CSS_SELECTOR, "[data-testid=stDownloadButton]"))
        wait.until(lambda it: it.find_elements(By.CSS_SELECTOR, "canvas, svg.marks"))
        height = browser.execute_script(
            "return document.querySelector('[data-testid=stMainBlockContainer]').getBoundingClientRect().height"
        )
        browser.set_window_size(WIDTH, round(height))
        time.sleep(2)  # for Streamlit's animations
        browser.save_screenshot(IMAGES / "ui.png")
    finally:
        page.terminate()
        page.wait()


def _wait_until_started(url: str) -> None:
    deadline = time.monotonic() + STARTED_SEC
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/_stcore/health").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit(f"no page answers at {url} within {STARTED_SEC} s")


if __name__ == "__main__":
    main()
