import json
from pathlib import Path

import numpy as np
import pytest

from modules.data.labels import EMOTIONS
from modules.evaluation import evaluate
from modules.export.contract import EXTRA_ASSETS, MODEL_FILE
from modules.reporting import model_card
from modules.reporting.summary import Check, Data, Protocol, SplitData, Verdict
from tests.original import ORIGINAL_AUDIO


def card_of(
    *corpora: str, override: str | None = None, network: model_card.Network | None = None
) -> model_card.ModelCard:
    labels = np.tile(np.arange(len(EMOTIONS)), 4)
    speakers = np.repeat(["a-01", "a-02"], 14).tolist()
    rows = np.full((28, 7), 0.05) + 0.65 * np.eye(7)[(labels + (np.arange(28) % 5 == 0)) % 7]
    counts = dict.fromkeys(corpora, 10)
    return model_card.describe(
        name="toy",
        spec=ORIGINAL_AUDIO,
        data=Data(
            splits=(SplitData(split="train", clips=10 * len(corpora), examples=40, speakers=3, by_corpus=counts),)
        ),
        protocol=Protocol(kind="speaker"),
        evaluation=evaluate.evaluate(
            labels, rows, speakers, classes=EMOTIONS, slices={"sex": ["female"] * 28}, resamples=50
        ),
        verdict=Verdict(
            blessed=True,
            checks=(Check(code="gate.uar", name="UAR", passed=True, text="UAR is fine | really."),),
            override=override,
        ),
        network=network,
    )


def test_the_card_has_every_section():
    text = model_card.to_markdown(card_of("ravdess", "crema-d"))
    uses = (*model_card.INTENDED_USE, *model_card.MUST_NOT_USE, *model_card.LIMITS)
    for shown in ("CC BY-NC-SA 4.0", "ODbL 1.0", *uses, Protocol(kind="speaker").sentence):
        assert shown in text
    assert "| UAR | 78.6% |" in text
    assert "| sex female | 28 | 2 | 78.6% |" in text
    assert "a-01" not in text


@pytest.mark.parametrize(
    ("corpora", "use"),
    [
        (("crema-d",), "with conditions"),
        (("crema-d", "ravdess"), "no"),
        (("crema-d", "my-own"), "unknown"),
        (("demo",), "yes"),
        (("my-own", "ravdess"), "no"),
    ],
)
def test_the_strictest_licence_decides(corpora, use):
    assert card_of(*corpora).commercial_use == use


def test_an_unknown_corpus_is_not_given_a_licence():
    (share,) = card_of("my-own").corpora
    assert share.commercial_use == "unknown"
    assert share.title == "my-own"


def test_synthetic_speech_and_an_override_are_shown():
    text = model_card.to_markdown(card_of("demo", override="Ada: a demonstration"))
    assert model_card.DEMO_LIMIT in text
    assert "Ada: a demonstration" in text
    assert model_card.DEMO_LIMIT not in model_card.to_markdown(card_of("ravdess"))


def test_the_card_names_the_network():
    network = model_card.Network(
        family="toy_net", parameters=12345, hyperparameters={"filters": 8, "dropout": 0.15000000000000002}
    )
    card = card_of("ravdess", network=network)
    text = model_card.to_markdown(card)
    for shown in ("toy_net", "12,345", "| filters | 8 |", "| dropout | 0.15 |"):
        assert shown in text
    assert model_card.ModelCard.model_validate_json(card.model_dump_json()).network == network
    assert "## Model" not in model_card.to_markdown(card_of("ravdess"))


def test_an_exported_model_has_a_description(exported):
    text = (Path(exported.serving_model_dir) / EXTRA_ASSETS / MODEL_FILE).read_text()
    network = model_card.Network(**json.loads(text))
    assert network.family == "original_cnn"
    assert network.hyperparameters == {"filters": 8, "kernel": 3, "pool": 2, "dropout": 0.2}
    assert network.parameters > 0


def test_a_bar_in_a_sentence_does_not_break_the_table():
    rows = [line for line in model_card.to_markdown(card_of("ravdess")).splitlines() if "really" in line]
    assert rows == ["| UAR | pass | UAR is fine \\| really. |"]


def test_every_corpus_that_is_read_has_its_facts():
    from components.audio_example_gen.corpora import crema_d, emodb, ravdess, savee, tess

    assert {each.NAME for each in (crema_d, emodb, ravdess, savee, tess)} <= set(model_card.CORPORA)


def test_the_json_is_read_back_as_it_was():
    card = card_of("ravdess")
    assert model_card.ModelCard.model_validate_json(card.model_dump_json()) == card
