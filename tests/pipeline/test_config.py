import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.config import app
from modules.models import FAMILIES
from pipeline import default_family
from pipeline.config import ConfigError, PipelineConfig, load_config
from pipeline.config_sources import RENAMED_KEYS, default_values, flatten, read_given, resolve
from pipeline.config_text import reference, show
from pipeline.vertex.config import VertexConfig
from tests import encoder_arrays

ROOT = Path(__file__).parents[2]
LOCAL_YAML = ROOT / "configs" / "local.yaml"
ORIGINAL = "training.family=original_cnn"


@pytest.fixture
def ser_config(monkeypatch):
    """Function that runs ``ser config`` and returns its output."""

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    monkeypatch.delenv("SER__TRAINING__EPOCHS", raising=False)
    return run


def every_default(tmp_path, *overrides):
    """Return a file with every value of the configuration that ``overrides`` give."""
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump(load_config(overrides=overrides).to_dict()))
    return file


def test_without_sources_values_are_class_defaults():
    assert load_config() == load_config(LOCAL_YAML) == PipelineConfig()


def test_examples_in_local_yaml_are_valid(tmp_path):
    file = tmp_path / "local.yaml"
    text = LOCAL_YAML.read_text()
    file.write_text("\n".join(line.removeprefix("# ") for line in text.split("\n\n", 1)[1].splitlines()))
    assert load_config(file).training.family == "original_cnn"


def test_later_sources_win(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("training: {epochs: 1, batch_size: 8, learning_rate: 0.5, family: original_cnn}")
    environ = {"SER__TRAINING__EPOCHS": "2", "SER__TRAINING__BATCH_SIZE": "9", "PATH": "/bin"}
    given = read_given(file, environ=environ, overrides=["training.epochs=3"])
    sources = resolve(given, PipelineConfig)
    training = PipelineConfig.model_validate(sources.values).training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 9, 0.5)
    names = ("epochs", "batch_size", "learning_rate", "early_stopping_patience", "precision")
    origins = [sources.origin(f"training.{name}") for name in names]
    assert origins == ["--set", "environment", "file", "family", "default"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_sets_its_recipe(family):
    config = load_config(overrides=[f"training.family={family}"])
    assert config.training.family == family
    for section, keys in FAMILIES[family].recipe.items():
        assert keys.items() <= config.to_dict()[section].items()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recipe_repeats_no_default(family):
    defaults = dict(flatten(default_values(PipelineConfig)))
    assert all(defaults[path] != value for path, value in flatten(dict(FAMILIES[family].recipe)))


def test_original_cnn_trains_as_the_previous_system_did():
    # The places in its code are listed in modules/models/original_cnn.py.
    config = load_config(overrides=[ORIGINAL])
    audio, augmentation, training = config.audio, config.augmentation, config.training
    assert (audio.sample_rate_hz, audio.window_offset_sec, audio.window_sec) == (22_050, 0.6, 2.5)
    assert augmentation.variants == ("plain", "noise", "pitch", "pitch+noise")
    assert (augmentation.noise_std, augmentation.pitch_semitones) == (0.035, 3.0)
    assert config.transform.normalisation == "zscore"
    assert (training.epochs, training.batch_size, training.learning_rate) == (50, 16, 0.001)
    assert training.learning_rate_schedule == "plateau"
    assert (training.plateau_factor, training.plateau_patience, training.plateau_min_learning_rate) == (0.4, 2, 1e-6)
    assert (training.early_stopping_patience, training.early_stopping_min_delta) == (4, 0.001)
    assert not training.restore_best_weights
    assert (training.weight_decay, training.label_smoothing, training.mixup, training.balance) == (0, 0, 0, "none")


def test_without_a_family_the_default_of_the_machine_brings_its_recipe():
    config = load_config(family="encoder_cnn")
    assert config == load_config(overrides=["training.family=encoder_cnn"])
    assert config.audio.feature_family == "encoder"


def test_a_file_may_name_the_family_of_the_class_defaults(tmp_path):
    file = every_default(tmp_path)
    assert load_config(file, family="encoder_cnn") == load_config()


def test_the_encoder_is_the_default_where_its_weights_are(tmp_path, monkeypatch):
    monkeypatch.setenv("SER_ENCODERS", str(tmp_path / "none"))
    assert default_family.on_this_machine().name == "attentive_crnn"
    with encoder_arrays.fetched(tmp_path / "encoders"):
        assert default_family.on_this_machine().name == "encoder_cnn"


def test_user_values_override_the_recipe():
    config = load_config(overrides=[ORIGINAL, "training.epochs=70", "audio.window_sec=2"])
    assert (config.training.epochs, config.audio.window_sec) == (70, 2.0)
    assert config.training.learning_rate_schedule == "plateau"
    assert config.audio.feature_family == "utterance"


@pytest.mark.parametrize("overrides", [(), ("seed=7",), (ORIGINAL,)])
def test_a_file_that_repeats_defaults_overrides_no_recipe(tmp_path, overrides):
    file = every_default(tmp_path, *overrides)
    assert load_config(file) == load_config(overrides=overrides)
    for family in FAMILIES:
        chosen = [f"training.family={family}", "seed=3"]
        assert load_config(file, overrides=chosen) == load_config(overrides=chosen)


@pytest.mark.parametrize(("blocks", "frozen"), [(1, 1), (2, 0), (4, 0)])
def test_trained_blocks_bring_their_features(blocks, frozen, tmp_path):
    chosen = ["training.family=encoder_linear", f"training.finetune_blocks={blocks}"]
    config = load_config(overrides=chosen)
    assert (config.audio.encoder_blocks, config.audio.encoder_pool_frames) == ((frozen,), 1)
    assert config.transform.normalisation == "none"
    assert load_config(every_default(tmp_path, *chosen)) == config


@pytest.mark.parametrize(
    ("blocks", "override", "message"),
    [
        (1, "training.family=attentive_crnn", r"attentive_crnn has no encoder; .*encoder_cnn or encoder_linear"),
        (5, "seed=0", r"finetune_blocks is 5, after block 0 .*at most 4"),
        (1, "audio.encoder_blocks=[4]", "at most 0"),
        (1, "audio.encoder_blocks=[1, 2]", r"encoder_blocks \[1, 2\].*one block"),
        (1, "audio.encoder_pool_frames=2", r"encoder_pool_frames 2; .* 1 frame"),
        (1, "transform.normalisation=minmax", r"normalisation is minmax .*none"),
        (0, "transform.normalisation=none", r"normalisation is none .*zscore or minmax"),
    ],
)
def test_blocks_that_cannot_be_trained_are_refused(blocks, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[f"training.finetune_blocks={blocks}", override], family="encoder_cnn")


def test_a_file_may_set_the_default_of_another_family(tmp_path):
    (tmp_path / "my.yaml").write_text("training: {family: original_cnn, epochs: 70}")
    assert load_config(tmp_path / "my.yaml").training.epochs == 70


def test_a_threshold_of_answers_changes_no_example():
    settings = load_config(overrides=["limits.min_confidence=0.6", "limits.min_speech=0.1"]).ingest_settings
    assert settings == load_config().ingest_settings


def test_a_promised_error_and_a_confidence_by_hand_are_refused():
    with pytest.raises(ConfigError, match=r"training\.max_error is 0\.1 and limits\.min_confidence 0\.6"):
        load_config(overrides=["training.max_error=0.1", "limits.min_confidence=0.6"])


def test_the_seed_applies_to_sections_without_a_seed(tmp_path):
    config = load_config(overrides=["seed=7", "tuner.seed=1"])
    assert (config.splits.seed, config.training.seed, config.tuner.seed) == (7, 7, 1)
    assert config.ingest_settings.seed == 7
    (tmp_path / "my.yaml").write_text("seed: 7\ntraining: {seed: 0}")
    assert load_config(tmp_path / "my.yaml").training.seed == 0


@pytest.mark.parametrize(
    ("override", "key", "code"),
    [
        ("training.epoch=3", "training.epoch", "extra_forbidden"),
        ("seed=abc", "seed", "int_parsing"),
        ("name.x=1", "name", "string_type"),
        ("training=5", "training", "model_type"),
        ("training.learning_rate=.nan", "training.learning_rate", "finite_number"),
        ("training.family=transformer", "training.family", "value_error"),
        ("training.hyperparameters={depth: 1}", "training.hyperparameters", "value_error"),
        ("training.xla=true", "training", "value_error"),
        ("training.max_error=1", "training.max_error", "less_than"),
        ("limits.min_confidence=1.1", "limits.min_confidence", "less_than_equal"),
        ("training.label_smoothing=1", "training.label_smoothing", "less_than"),
        ("audio.sample_rate_hz=1000000", "audio.sample_rate_hz", "less_than_equal"),
        ("audio.hop_samples=0", "audio.hop_samples", "greater_than_equal"),
        ("audio.mfcc_coefficients=200", "audio", "value_error"),
        ("audio.feature_family=utterance", "", "value_error"),
        ("limits.min_duration_sec=-5", "limits.min_duration_sec", "greater_than_equal"),
        ("limits.max_channels=0", "limits.max_channels", "greater_than_equal"),
        ("limits.max_bytes=-1", "limits.max_bytes", "greater_than_equal"),
        ("limits.silence_peak=2", "limits.silence_peak", "less_than"),
        ("limits.min_duration_sec=900", "limits", "value_error"),
        ("limits.min_sample_rate_hz=400000", "limits", "value_error"),
        ("limits.max_peak=0.00001", "limits", "value_error"),
        ("labels.mapping.calm=joy", "labels", "value_error"),
        ("labels.emotions=[Angry, calm, sad]", "labels.emotions.0", "string_pattern_mismatch"),
        ("splits.by=dice", "splits.by", "literal_error"),
        ("splits.train=0.9", "splits", "value_error"),
        ("splits={eval_speakers: [a], test_speakers: [a]}", "splits", "value_error"),
        ("splits={by: clip, test_speakers: [a]}", "splits", "value_error"),
        ("augmentation.pitch_semitones=900", "augmentation.pitch_semitones", "less_than_equal"),
        ("augmentation.variants=[]", "augmentation.variants", "too_short"),
        ("augmentation.variants=[noise, noise]", "augmentation.variants", "value_error"),
        ("augmentation.variants=[pitch+echo]", "augmentation.variants", "value_error"),
        ("augmentation.variants=[plain+noise]", "augmentation.variants", "value_error"),
        ("augmentation.variants=[noise+noise]", "augmentation.variants", "value_error"),
        ("ingest.pattern=foo", "ingest.pattern", "value_error"),
        ("ingest.spans=2", "ingest", "value_error"),
        ("ingest.max_quarantined_share=5", "ingest.max_quarantined_share", "less_than_equal"),
        ("drift.permutations=10", "drift", "value_error"),
        ("drift.max_clips=3", "drift", "value_error"),
        ("drift.stop_on=always", "drift.stop_on", "literal_error"),
        ("drift.deals=500", "drift.deals", "renamed"),
        ("transform.normalisation=l2", "transform.normalisation", "literal_error"),
        ("transform.normalisation=none", "", "value_error"),
        ("training.finetune_blocks=1", "", "value_error"),
        ("training.finetune_learning_rate_factor=0", "training.finetune_learning_rate_factor", "greater_than"),
        ("tuner.algorithm=grid", "tuner.algorithm", "literal_error"),
        ("gate.slices=[age]", "gate.slices.0", "literal_error"),
        ("gate.min_adjusted_uar=1.5", "gate.min_adjusted_uar", "less_than_equal"),
    ],
)
def test_an_unusable_value_is_the_only_problem(override, key, code):
    with pytest.raises(ConfigError) as error:
        load_config(overrides=[override])
    assert [(problem.key, problem.code) for problem in error.value.problems] == [(key, code)]


@pytest.mark.parametrize(
    ("override", "texts"),
    [
        ("limits.max_channels=0", ["limits.max_channels is 0 (--set)", "from 1 to 1024"]),
        ("splits.by=dice", ["splits.by is dice (--set)", "speaker, clip"]),
        ("limits.min_duration_sec=900", ["limits: min_duration_sec is 900.0", "below max_duration_sec, 600.0"]),
        ("training.epoch=3", ["training.epoch (--set) is not a key", "did you mean training.epochs?"]),
        ("trainning.epochs=3", ["trainning (--set) is not a key", "did you mean training?"]),
        ("epochs=3", ["did you mean training.epochs or tuner.epochs?"]),
        ("labels.emotions=[Angry, calm, sad]", ["labels.emotions.0 is Angry", "a-z, 0-9, space, _ and -"]),
        ("labels.mapping={Calm: sad}", ["labels.mapping.Calm", "a-z, 0-9, space, _ and -"]),
        ("ingest.zzz=3", ["allowed in ingest: max_quarantined_share, pattern, spans"]),
        ("drift.deals=500", ["drift.deals (--set) was renamed to drift.permutations"]),
    ],
)
def test_a_problem_has_key_value_allowed_and_next_step(override, texts):
    with pytest.raises(ConfigError) as error:
        load_config(overrides=[override])
    _, line, next_step = str(error.value).splitlines()
    assert all(text in line for text in texts), line
    assert len(line) < 200
    assert "docs/reference/configuration.md" in next_step


@pytest.mark.parametrize("origin", ["file", "environment", "--set"])
def test_a_problem_names_the_source_of_the_value(tmp_path, origin):
    (tmp_path / "my.yaml").write_text("limits: {max_channels: 0}" if origin == "file" else "")
    environ = {"SER__LIMITS__MAX_CHANNELS": "0"} if origin == "environment" else {}
    overrides = ["limits.max_channels=0"] if origin == "--set" else []
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "my.yaml", environ=environ, overrides=overrides)
    (problem,) = error.value.problems
    assert problem.key == "limits.max_channels"
    assert f"0 ({origin})" in problem.text


def test_new_names_of_renamed_keys_exist():
    keys = {".".join(path) for path, _ in flatten(default_values(VertexConfig))}
    assert set(RENAMED_KEYS.values()) <= keys
    assert not RENAMED_KEYS.keys() & keys


def test_sentences_are_texts_and_braces_make_a_mapping():
    config = load_config(
        overrides=["gate.override=Ada: why not", "ingest.pattern=*/*", "training.hyperparameters={filters: 8}"]
    )
    assert config.gate.override == "Ada: why not"
    assert config.ingest.pattern == "*/*"
    assert config.training.hyperparameters == {"filters": 8}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("training: {epochs: 1}\naudio: {}\ntraining: {batch_size: 8}", "a second training in line 3, column 1"),
        ("training:\n  epochs: 1\n  epochs: 2", "a second epochs in line 3, column 3"),
        ("1: 2", r"1 \(file\) is not a key"),
    ],
)
def test_keys_are_texts_and_there_once(tmp_path, text, reason):
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load_config(tmp_path / "my.yaml")


@pytest.mark.parametrize("text", ["- a list", "a: [", "just words"])
def test_a_file_without_sections_is_refused(tmp_path, text):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_a_set_without_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        load_config(overrides=["training.epochs"])


def test_the_fingerprint_differs_when_a_value_does():
    assert load_config().fingerprint == load_config().fingerprint
    assert load_config().fingerprint != load_config(overrides=["training.epochs=3"]).fingerprint


def test_show_prints_a_file_with_the_same_values(ser_config, tmp_path):
    overrides = [ORIGINAL, "gate.override=Ada: why # not", "training.hyperparameters={filters: 8}", "seed=4"]
    file = tmp_path / "shown.yaml"
    file.write_text(ser_config("show", *(word for text in overrides for word in ("--set", text))))
    assert load_config(file) == load_config(overrides=overrides)


def test_show_names_the_source_of_every_value(ser_config, monkeypatch):
    monkeypatch.setenv("SER__BEAM__WORKERS", "2")
    shown = json.loads(ser_config("show", "--set", ORIGINAL, "--format", "json"))
    assert shown["training.family"] == {"value": "original_cnn", "from": "--set"}
    assert shown["training.epochs"] == {"value": 50, "from": "family"}
    assert shown["beam.workers"] == {"value": 2, "from": "environment"}
    assert shown["training.precision"] == {"value": "float32", "from": "default"}
    assert "| `training.epochs` | `50` | family |" in ser_config("show", "--set", ORIGINAL, "--format", "markdown")


def test_show_has_section_vertex_if_a_source_has_it(ser_config):
    shown = yaml.safe_load(ser_config("show", "--config", ROOT / "tests" / "golden" / "vertex.yaml"))
    assert shown["vertex"]["trainer"]["strategy"] == "spot"
    assert shown["vertex"]["nodes"]["AnomalyGate"]["retries"] == 0
    assert "vertex" not in yaml.safe_load(ser_config("show"))


def test_the_reference_page_is_up_to_date():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert page == reference(), "write it again with: make reference"


def test_the_reference_has_every_key_with_its_default():
    page = reference()
    for path, _ in flatten(default_values(VertexConfig)):
        named_by_the_user = ".".join(path[:-1])
        assert f"| `{'.'.join(path)}` |" in page or f"| `{named_by_the_user}` |" in page
    assert "| `training.epochs` | `70` |" in page


def test_show_accepts_a_configuration_object():
    sources = resolve(read_given(None, overrides=[], environ={}), PipelineConfig)
    assert yaml.safe_load(show(load_config(), sources, "yaml")) == load_config().to_dict()


def test_the_runner_checks_the_configuration_first():
    command = [sys.executable, "runner_local.py", "--data", "docs", "--set", "limits.max_channels=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "limits.max_channels is 0" in done.stderr
    assert "Loading" not in done.stderr
