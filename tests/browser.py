"""A real browser, where one is installed."""

import shutil

import pytest
from axe_core_python.selenium import Axe
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


def serious_findings(driver: webdriver.Chrome) -> list[str]:
    """Return the critical and serious findings of axe on the open page, a line for each element."""
    driver.set_script_timeout(120)
    # Streamlit's icons are words in a font of pictures, hidden from screen readers: axe takes them for small text.
    violations = Axe().run(driver, {"exclude": [["[data-testid=stIconMaterial]"]]})["violations"]
    serious = [violation for violation in violations if violation["impact"] in ("critical", "serious")]
    return [f"{violation['id']}: {node['html']}" for violation in serious for node in violation["nodes"]]
