"""Options and failures of ``ser rollout``; tests/serving/rollout/test_rollout.py tests its actions."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from cli import rollout
from cli.exits import ExitCode
from cli.main import main

ROOT = Path(__file__).parents[2]


def run(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main(["rollout", *map(str, words)])
    captured = capsys.readouterr()
    return left.value.code, captured.err


@pytest.fixture
def models_config(tmp_path):
    file = tmp_path / "models.config"
    file.write_text('model_config_list { config { name: "ser" base_path: "/models/ser" } }')
    return file


def test_help_and_status_load_nothing_heavy(models_config):
    heavy = "tensorflow", "tfx", "apache_beam", "librosa", "keras", "google.cloud.aiplatform"
    for words in (["--help"], ["status", "--address", "localhost:1", "--models-config", str(models_config)]):
        code = (
            "import sys\nfrom cli.main import main\n"
            f"try:\n    main(['rollout', *{words!r}])\nexcept SystemExit:\n    pass\n"
            f"print('heavy:', [name for name in {heavy!r} if name in sys.modules])"
        )
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert finished.stdout.splitlines()[-1] == "heavy: []"


def test_every_command_takes_the_place_and_its_own_options():
    commands = typer.main.get_command(rollout.app).commands
    own = {name: [option.name for option in command.params] for name, command in commands.items()}
    place = [field.name for field in dataclasses.fields(rollout._Place)]
    for name in ("status", "promote", "rollback", "abort"):
        assert own[name] == [*place, "as_json"]
    assert own["canary"] == ["version", "stable", "public_key", *place, "as_json"]
    assert set(own["watch"]) > {"probe", "minutes", *place}
    assert set(own) == {"status", "canary", "promote", "rollback", "abort", "watch", "prune"}


def test_unusable_addresses_are_refused(models_config, capsys):
    code, error = run(capsys, "status", "--address", "nowhere")
    assert code == ExitCode.REFUSED
    assert "'nowhere'" in error


def test_only_changes_need_the_models_config(unused_tcp_port, capsys):
    place = ["--address", f"localhost:{unused_tcp_port}"]
    code, error = run(capsys, "status", *place)
    assert code == ExitCode.FAILED
    assert "--models-config" not in error
    for change in (["promote"], ["rollback"], ["abort"], ["canary", "4"]):
        code, error = run(capsys, *change, *place)
        assert code == ExitCode.REFUSED
        assert "--models-config" in error


@pytest.mark.parametrize("command", [["status"], ["promote"], ["rollback"], ["abort"], ["canary", "4"]])
def test_without_a_server_nothing_changes(command, models_config, unused_tcp_port, capsys):
    before = models_config.read_text()
    place = ["--address", f"localhost:{unused_tcp_port}", "--models-config", models_config]
    code, error = run(capsys, *command, *place)
    assert code == 1
    assert f"localhost:{unused_tcp_port}" in error
    assert error.count("\n") == 1
    assert models_config.read_text() == before


def test_a_watch_that_cannot_begin_does_not_exit_with_a_verdict(models_config, tmp_path, unused_tcp_port, capsys):
    place = ["--address", f"localhost:{unused_tcp_port}", "--models-config", models_config, "--probe", tmp_path]
    code, error = run(capsys, "watch", *place)
    assert code == ExitCode.REFUSED
    assert str(tmp_path) in error
    code, error = run(capsys, "watch", *place, "--max-error-rate=2")
    assert code == ExitCode.REFUSED
    assert "max_error_rate is 2.0" in error
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16_000) / 20), 16_000)
    code, error = run(capsys, "watch", *place)
    assert code == ExitCode.FAILED
    assert f"localhost:{unused_tcp_port}" in error
    (tmp_path / "b.wav").write_bytes(b"no sound")
    code, error = run(capsys, "watch", *place)
    assert code == ExitCode.REFUSED
    assert "b.wav" in error
