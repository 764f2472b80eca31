import re

import numpy as np
import pytest

from benchmarks import ablation, document
from modules.evaluation.intervals import Predictions
from pipeline.config import load_config


def scored(share_right: float, *, seed: int = 0) -> ablation.Scored:
    """Return predictions for 8 speakers with 28 clips each, of which ``share_right`` are right."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(7), 32)
    predicted = np.where(rng.uniform(size=labels.size) < share_right, labels, (labels + 1) % 7)
    probabilities = 0.1 / 7 + 0.9 * np.eye(7)[predicted]
    return ablation.Scored(
        predictions=Predictions.of(labels, probabilities, np.repeat([f"s{n}" for n in range(8)], 28).tolist()),
        fold_uars=(share_right - 0.1, share_right + 0.1),
        parameters=218380,
        seconds=12.3,
        train_speakers=5,
        eval_speakers=1,
    )


def test_every_row_differs_from_the_recipe_in_training_alone():
    recipe = load_config(overrides=ablation.ROWS[ablation.RECIPE])
    assert recipe == load_config()
    configs = {name: load_config(overrides=settings) for name, settings in ablation.ROWS.items()}
    assert len({config.fingerprint for config in configs.values()}) == len(configs)
    for name, config in configs.items():
        if name.startswith("with"):
            assert config.model_copy(update={"training": recipe.training}) == recipe
            assert config.training.family == recipe.training.family


def test_rows_remove_parts_of_the_recipe_or_add_one():
    recipe = load_config().training
    used = recipe.model_family.hyperparameters(recipe.hyperparameters)
    assert min(used.noise, used.band_shift, used.band_stretch, used.masks, used.gain, recipe.mixup) > 0
    assert used.time_jitter == 0


def test_rows_include_the_recipe():
    assert list(ablation.rows_of(["without masks"], seeds=1)) == ["recipe", "without masks"]
    assert list(ablation.rows_of(["original_cnn"], seeds=1)) == ["recipe", "original_cnn"]
    assert list(ablation.rows_of([], seeds=3)) == ["recipe", "recipe, seed 1", "recipe, seed 2"]
    with pytest.raises(ValueError, match=r"without sleep.*recipe, original_cnn"):
        ablation.rows_of(["without sleep"], seeds=1)


def test_table_has_differences_and_the_rows_not_run():
    text = ablation.to_markdown(
        {"recipe": scored(0.8), "original_cnn": scored(0.5, seed=1), "recipe, seed 1": scored(0.8, seed=2)}
    )
    recipe, original, _ = (line.split(" | ") for line in text.splitlines()[2:5])
    recipe_folds, _, seed_folds = (line.split(" | ") for line in text.splitlines()[8:11])
    assert recipe[0] == "| recipe"
    assert recipe[2] == ""
    assert original[0] == "| `original_cnn`"
    value, low, high = map(float, re.fullmatch(r"(-\d+\.\d) \((-\d+\.\d) to (-\d+\.\d)\)", original[2]).groups())
    assert low < value < high < 0
    assert value == pytest.approx(float(original[1].split()[0]) - float(recipe[1].split()[0]), abs=0.11)
    assert recipe_folds[1:3] == ["70.0, 90.0", "80.0 ± 14.1"]
    assert seed_folds[3:] == ["218 380", "12 |"]
    assert "over 2 seeds" in text
    assert "Not run: without noise; without mixup; without band shift and stretch; " in text


def test_a_table_replaces_only_the_text_between_its_markers(tmp_path):
    path = tmp_path / "results.md"
    path.write_text("before\n<!-- one -->\nold\n<!-- /one -->\nbetween\n<!-- two -->\n<!-- /two -->\nafter\n")
    for text in ("| a |\n", "| b |\n"):
        document.write(path, "one", text)
    assert path.read_text() == (
        "before\n<!-- one -->\n\n| b |\n\n<!-- /one -->\nbetween\n<!-- two -->\n<!-- /two -->\nafter\n"
    )
    with pytest.raises(ValueError, match="<!-- three --> and <!-- /three -->"):
        document.write(path, "three", "")


def test_other_rows_and_the_text_stay_when_rows_are_replaced(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- one -->\n<!-- /one -->\nafter\n")
    rows = {"recipe": scored(0.8), "without masks": scored(0.7), "original_cnn": scored(0.5)}
    document.write(path, "one", ablation.to_markdown(rows))
    whole = path.read_text()
    document.write_rows(path, "one", ablation.to_markdown(rows))
    assert path.read_text() == whole
    changed = {"recipe": rows["recipe"], "original_cnn": scored(0.3)}
    document.write_rows(path, "one", ablation.to_markdown(changed))
    lines = zip(whole.splitlines(), path.read_text().splitlines(), strict=True)
    assert [old.split(" | ")[0] for old, new in lines if old != new] == ["| `original_cnn`", "| `original_cnn`"]
    with pytest.raises(ValueError, match="without gain"):
        document.write_rows(path, "one", ablation.to_markdown({"recipe": rows["recipe"], "without gain": scored(0.6)}))
