"""A real browser, where one is installed."""

import shutil

import pytest
from selenium import webdriver

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver is installed (Debian: chromium, chromium-driver)"
)


def start_browser(*arguments: str) -> webdriver.Chrome:
    """Return a browser without a window; the caller quits it."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", *arguments):
        options.add_argument(f"--{argument}")
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
