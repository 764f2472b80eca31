from pathlib import Path

import pytest

from modules.models import FAMILIES
from pipeline.config import ConfigError, PipelineConfig, load_config

LOCAL_YAML = Path(__file__).parents[2] / "configs" / "local.yaml"


def test_local_yaml_lists_every_key_with_its_default():
    assert load_config(LOCAL_YAML) == PipelineConfig()


def test_later_sources_win(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("training: {epochs: 1, batch_size: 8, learning_rate: 0.5}")
    environ = {"SER__TRAINING__EPOCHS": "2", "SER__TRAINING__BATCH_SIZE": "9", "PATH": "/bin"}
    training = load_config(file, environ=environ, overrides=["training.epochs=3"]).training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 9, 0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_brings_its_recipe(family):
    config = load_config(overrides=[f"training.family={family}"])
    assert config.training.family == family
    for section, keys in FAMILIES[family].recipe.items():
        assert keys.items() <= config.to_dict()[section].items()


def test_what_is_set_goes_before_the_recipe():
    config = load_config(overrides=["training.family=attentive_crnn", "training.epochs=3", "audio.window_sec=2"])
    assert (config.training.epochs, config.audio.window_sec) == (3, 2.0)
    assert config.training.learning_rate_schedule == "cosine"
    assert config.audio.feature_family == "logmel"


def test_one_seed_serves_every_section_without_its_own():
    config = load_config(overrides=["seed=7", "tuner.seed=1"])
    assert (config.splits.seed, config.training.seed, config.tuner.seed) == (7, 7, 1)
    assert config.ingest_settings.seed == 7


@pytest.mark.parametrize(
    ("override", "complaints"),
    [
        ("training.epoch=3", ["training.epoch", "no such key", "epochs"]),
        ("trainning.epochs=3", ["trainning", "no such key", "training"]),
        ("audio.hop_samples=0", ["audio.hop_samples is 0", "above 0"]),
        ("splits.by=dice", ["splits.by", "'speaker' or 'clip'", "'dice'"]),
        ("gate.min_uar=1.5", ["gate.min_uar is 1.5", "between 0 and 1"]),
        ("training.epochs=many", ["training.epochs", "integer", "'many'"]),
        ("training.family=transformer", ["training.family is 'transformer'", "original_cnn"]),
        ("audio.feature_family=utterance", ["attentive_crnn", "logmel features", "audio.feature_family is utterance"]),
        ("training.epochs", ["--set training.epochs", "section.key=value"]),
        ("name.x=1", ["name"]),
    ],
)
def test_an_unusable_value_is_named_with_what_is_allowed(override, complaints):
    with pytest.raises(ConfigError) as error:
        load_config(overrides=[override])
    assert all(complaint in str(error.value) for complaint in complaints), str(error.value)


def test_sentences_and_patterns_are_texts_and_braces_make_a_mapping():
    config = load_config(
        overrides=["gate.override=Ada: why not", "ingest.pattern=*/*", "training.hyperparameters={filters: 8}"]
    )
    assert config.gate.override == "Ada: why not"
    assert config.ingest.pattern == "*/*"
    assert config.training.hyperparameters == {"filters": 8}


@pytest.mark.parametrize("text", ["- a list", "a: [", "just words"])
def test_a_file_that_is_no_tree_of_sections_is_refused(tmp_path, text):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml.*configs/local\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_the_fingerprint_differs_when_a_value_does():
    assert load_config().fingerprint == load_config().fingerprint
    assert load_config().fingerprint != load_config(overrides=["training.epochs=3"]).fingerprint
