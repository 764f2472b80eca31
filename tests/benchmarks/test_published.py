"""Table of results next to published figures."""

import pytest
import yaml

from benchmarks import published
from pipeline.cross_validation.protocols.catalog import protocol_named


def result(protocol: str | None, speakers: int) -> dict:
    """Return what ``cross_validation.json`` has, with a UAR of 50 and 70 % in two folds."""
    metrics = [{"name": name, "value": 0.6, "low": 0.5, "high": 0.7} for name in ("uar", "accuracy", "macro_f1")]
    folds = [{"metrics": [{"name": "uar", "value": recall}]} for recall in (0.5, 0.7)]
    return {
        "protocol": {"name": protocol} if protocol else None,
        "folds_sha256": "0123456789abcdef",
        "family": "encoder_cnn",
        "encoder": "whisper-tiny.en",
        "parameters": 102920,
        "evaluation": {"speakers": speakers, "metrics": metrics},
        "folds": folds,
    }


def test_own_row_follows_the_published_ones():
    (table,) = published.to_markdown([result("ravdess-emobox", speakers=24)]).values()
    _, _, first, *_, own = table.splitlines()
    assert first == ("| data2vec base | speech, frozen | 94 M | UAR 51.92, accuracy 52.22, F1 51.10 | [EmoBox] |")
    assert own == (
        "| **`encoder_cnn`** | speech (whisper-tiny.en), frozen | 102 920 trained | "
        "UAR 60.0 (50.0 to 70.0), accuracy 60.0, F1 60.0; mean of the folds 60.0 ± 14.1 | folds 01234567 |"
    )


def test_trained_blocks_are_named():
    (table,) = published.to_markdown([result("ravdess-emobox", speakers=24) | {"finetune_blocks": 2}]).values()
    assert "speech (whisper-tiny.en), 2 of its blocks trained" in table


def test_a_refitted_model_is_named():
    (table,) = published.to_markdown([result("savee-loso", speakers=4) | {"refit": True}]).values()
    assert "| **`encoder_cnn`**, refitted |" in table


def test_interval_of_few_speakers_is_unknown():
    (table,) = published.to_markdown([result("savee-loso", speakers=4)]).values()
    assert "UAR 60.0 (interval unknown)" in table


def test_results_of_one_protocol_share_a_table():
    tables = published.to_markdown([result(name, 24) for name in ("savee-loso", "ravdess-emobox", "savee-loso")])
    assert {name: text.count("encoder_cnn") for name, text in tables.items()} == {"savee-loso": 2, "ravdess-emobox": 1}


def test_results_without_a_protocol_are_refused():
    with pytest.raises(ValueError, match="--protocol NAME"):
        published.to_markdown([result(None, 24)])


def test_published_figures_are_of_known_protocols_and_possible():
    figures = yaml.safe_load(published.PUBLISHED_FILE.read_text())
    assert {protocol_named(name).name for name in figures} == set(figures)
    rows = [row for listed in figures.values() for row in listed]
    values = [row[name] for row in rows for name in published.TITLES if name in row]
    assert len(values) >= len(rows)
    assert all(0 < value < 100 for value in values)
