"""The report in a real browser, on a desk and a phone, in both modes."""

import datetime

import numpy as np
import pytest
import soundfile
from selenium.webdriver.support.wait import WebDriverWait

from modules.data.labels import EMOTIONS
from modules.evaluation.errors import wrong_predictions
from modules.evaluation.evaluate import compare, evaluate
from modules.evaluation.intervals import Predictions
from modules.reporting.sound import embed
from modules.reporting.summary import (
    Acceptance,
    AcceptanceCheck,
    Check,
    Lineage,
    PastRun,
    Push,
    Run,
    RunSummary,
    Training,
    Verdict,
)
from modules.reporting.write import write
from tests.browser import needs_browser, serious_findings, start_browser

pytestmark = needs_browser

STARTED = datetime.datetime(2026, 11, 28, 21, 59, tzinfo=datetime.UTC)
FINGERPRINT = "split:level_1,num_files:2,total_bytes:843,sha256:" + "3" * 64
LEAST_CONTRAST = 4.5
ACCEPTANCE = Acceptance(
    emotions=EMOTIONS,
    clips=112,
    speakers=4,
    checks=(
        AcceptanceCheck(test="correctness_classification", name="UAR", value=0.6, bound=0.5, kind="above", passed=True),
    ),
)
SPEAKERS = [f"toy-{number}-{'long' * 15}" for number in range(1, 5)]

LOW_CONTRAST = """
const canvas = document.createElement('canvas');
const pixel = canvas.getContext('2d', {willReadFrequently: true});
const rgba = colour => {
  pixel.clearRect(0, 0, 1, 1);
  pixel.fillStyle = colour;
  pixel.fillRect(0, 0, 1, 1);
  return pixel.getImageData(0, 0, 1, 1).data;
};
const over = (top, below) => [0, 1, 2].map(i => (top[i] * top[3] + below[i] * (255 - top[3])) / 255);
const luminance = colour => {
  const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = element => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor));
  return layers.reduce((below, top) => over(top, below), [255, 255, 255]);
};
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!hasText || !element.getClientRects().length) continue;
  const below = background(element), style = getComputedStyle(element);
  const ink = luminance(over(rgba(element instanceof SVGElement ? style.fill : style.color), below));
  const paper = luminance(below);
  const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (contrast < arguments[0]) found.push([element.textContent.trim(), contrast]);
}
return found;
"""


def predictions(strength: float) -> Predictions:
    """Return predictions for 28 clips of each of four speakers, with errors of every kind."""
    random = np.random.default_rng(0)
    labels = np.tile(np.arange(7), 16)
    logits = random.normal(size=(len(labels), 7))
    logits[np.arange(len(labels)), labels] += strength
    rows = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    return Predictions.of(labels, rows, np.repeat(SPEAKERS, 28).tolist())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with long paths and names, a baseline, earlier runs and two recordings that play."""
    folder = tmp_path_factory.mktemp("report")
    candidate = predictions(1.5)
    clip_ids = [f"toy/speaker_{index:03d}/{'long' * 12}.wav" for index in range(len(candidate.labels))]
    columns = {"clip_id": clip_ids, "corpus": ["toy"] * len(clip_ids), "speaker": candidate.speakers.tolist()}
    errors = wrong_predictions(columns.__getitem__, candidate.labels, candidate.probabilities, classes=EMOTIONS)
    for error in errors[:2]:
        (folder / error.path).parent.mkdir(exist_ok=True)
        soundfile.write(folder / error.path, np.random.default_rng(1).normal(0, 0.1, 16_000), 16_000)
    sex = np.where(np.isin(candidate.speakers, SPEAKERS[:2]), "female", "male").tolist()
    evaluation = evaluate(
        candidate.labels, candidate.probabilities, candidate.speakers, classes=EMOTIONS, slices={"sex": sex}
    )
    rejection = Check(code="gate.uar", name="UAR", passed=False, text="UAR is only 50%.", value=0.5, bound=0.9)
    summary = RunSummary(
        run=Run(name="ser", started=STARTED, status="completed", command=f"python runner_local.py --data /{'x' * 90}"),
        evaluation=evaluation.model_copy(update={"errors": errors, "acceptance": ACCEPTANCE}),
        training=Training(family="attentive_crnn", parameters=9, epochs_run=2, history={"loss": (2, 1)}),
        baseline=compare(candidate, predictions(0.5), name="model 7"),
        verdict=Verdict(blessed=False, checks=(rejection,), reasons=(rejection.text,)),
        pushed=Push(version="1795920695", path=f"/{'serving' * 12}/1795920695"),
        history=(PastRun(id="20261128-205943", started=STARTED, family="attentive_crnn", uar=0.4, low=0.3, high=0.6),),
        lineage=Lineage(config_fingerprint="9f3c", code_version="0.1.0", python="3.11", data_fingerprint=FINGERPRINT),
        model_card=str(folder / "model_card.md"),
        training_logs=f"/{'logs' * 25}",
    )
    _, report = write(summary, folder, sounds=embed([error.path for error in errors[:2]], folder), links=True)
    return report


@pytest.fixture(scope="module")
def browser():
    driver = start_browser()
    yield driver
    driver.quit()


@pytest.fixture(params=["light", "dark"])
def open_page(request, browser, page):
    """Function that opens the report at a size, in each mode."""

    def open_at(width: int, height: int):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        mode = {"name": "prefers-color-scheme", "value": request.param}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [mode]})
        browser.get(page.as_uri())
        return browser

    return open_at


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1200, 800)])
def test_nothing_scrolls_sideways_and_every_text_stands_out(open_page, width, height):
    opened = open_page(width, height)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    assert opened.execute_script(LOW_CONTRAST, LEAST_CONTRAST) == []
    assert len(opened.execute_script(LOW_CONTRAST, 22)) > 50, "the script reads texts"


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1200, 800)])
def test_small_text_is_apart_from_the_word_before(open_page, width, height):
    joined = open_page(width, height).execute_script(
        "return [...document.querySelectorAll('small')].filter(e => e.getClientRects().length"
        " && getComputedStyle(e).display === 'inline' && parseFloat(getComputedStyle(e).marginLeft) === 0"
        " && e.previousSibling && /\\S$/.test(e.previousSibling.textContent) && e.previousSibling.nodeName !== 'BR'"
        ").map(e => e.parentElement.innerText)"
    )
    assert joined == []


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1200, 800)])
def test_axe_finds_nothing_serious(open_page, width, height):
    assert serious_findings(open_page(width, height)) == []


def test_the_first_screen_answers_how_good_compared_with_what_for_whom_and_what_next(open_page):
    opened = open_page(1200, 800)
    texts = opened.execute_script(
        "return [...document.querySelectorAll('.number, .reading, .answers > div')]"
        ".filter(e => e.getBoundingClientRect().bottom <= innerHeight).map(e => e.innerText)"
    )
    assert len(texts) == 5
    widths = "return [...document.querySelectorAll('.answers > div')].map(e => e.getBoundingClientRect().width)"
    assert np.ptp(opened.execute_script(widths)) < 1, "a long name leaves the others their room"
    number, reading, compared, weak, following = texts
    assert "UAR" in number
    assert "unknown with 4 speakers" in reading
    assert {"Guessing", "Blessed model 7"} <= {line.partition(":")[0] for line in compared.splitlines()}
    assert any(emotion in weak for emotion in EMOTIONS)
    assert "ser evaluate" in following


def test_recordings_of_errors_play(open_page):
    opened = open_page(390, 844)
    durations = "return [...document.querySelectorAll('audio')].map(a => (a.preload = 'auto', a.duration || 0))"
    seconds = WebDriverWait(opened, 20).until(lambda driver: all(found := driver.execute_script(durations)) and found)
    assert seconds == pytest.approx([1.0, 1.0], abs=0.1)


def test_paper_has_no_players(open_page):
    opened = open_page(700, 1000)
    players = "return [...document.querySelectorAll('audio')].filter(a => a.getClientRects().length).length"
    assert opened.execute_script(players) == 2
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert opened.execute_script(players) == 0
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_model_card_is_linked(open_page, page):
    opened = open_page(1200, 800)
    links = opened.execute_script("return [...document.querySelectorAll('#lineage a')].map(a => a.href)")
    assert links == [(page.parent / "model_card.md").as_uri()]
