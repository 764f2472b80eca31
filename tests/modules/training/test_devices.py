"""Accelerators, simulated by logical devices of the processor."""

import json
import subprocess
import sys

import pytest

from modules.training import trainer, tuner
from modules.training.devices import ACCELERATORS_KEY, AcceleratorsMissing
from modules.training.settings import TuningSettings
from tests.original import ORIGINAL_AUDIO, ORIGINAL_TRAINING
from tests.paths import ROOT


@pytest.mark.parametrize("work", ["training", "tuning"])
def test_missing_accelerators_fail_before_data_are_read(transformed, tmp_path, work):
    settings = ORIGINAL_TRAINING
    config = tuner.tuner_config(transformed.spec, settings, TuningSettings()) | {ACCELERATORS_KEY: 2}
    nowhere = [str(tmp_path / "nowhere" / "*")]
    fn_args = transformed.fn_args(
        settings,
        tmp_path,
        custom_config=config,
        train_files=nowhere,
        eval_files=nowhere,
        transform_graph_path="nowhere",
    )
    with pytest.raises(AcceleratorsMissing, match=r"2 .* 0.*gpu_image"):
        (trainer.run_fn if work == "training" else tuner.tuner_fn)(fn_args)


@pytest.fixture
def splits_of_seven():
    from tests.modules.training.two_devices import make_split

    return make_split(7, ORIGINAL_AUDIO), make_split(7, ORIGINAL_AUDIO)


def test_a_batch_that_devices_cannot_share_evenly_is_refused(splits_of_seven):
    with pytest.raises(ValueError, match=r"training\.batch_size is 32 and 3 accelerators.*3"):
        trainer.fit_arguments(ORIGINAL_TRAINING.replace(batch_size=32), *splits_of_seven, devices=3)


@pytest.mark.parametrize(
    "family",
    ["original_cnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("attentive_crnn", "encoder_linear"))],
)
def test_two_devices_train_the_same_model_as_one(family):
    command = [sys.executable, "-m", "tests.modules.training.two_devices", family]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["probabilities"] < 1e-5
    assert results["losses"] < 1e-4
    assert results["variables"] == ["ResourceVariable"]  # not mirrored: any device can load the exported model
    assert results["trials"] == ["COMPLETED"]
