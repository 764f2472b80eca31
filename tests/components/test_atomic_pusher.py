import os
import shutil
from pathlib import Path

import pytest
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.artifacts import VALIDATED_FILE
from components.atomic_pusher.executor import Executor, find_pushed, push
from modules.export import manifest
from modules.export.manifest import MANIFEST_FILE, SIGNATURE_FILE, ManifestError
from tests.keys import write_keys


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"weights")
    return folder


@pytest.fixture
def serving(tmp_path):
    return tmp_path / "serving"


def test_a_version_has_a_number_and_all_files(model, serving):
    version = push(str(model), str(serving))
    assert os.path.basename(version).isdigit()
    assert (serving / os.path.basename(version) / "variables" / "variables.index").read_bytes() == b"weights"


def test_the_same_model_is_not_pushed_twice(model, serving):
    assert push(str(model), str(serving)) == push(str(model), str(serving))
    assert len(list(serving.iterdir())) == 1


def test_extra_assets_are_pushed_with_the_model(model, serving, tmp_path):
    card = tmp_path / "model_card.md"
    card.write_text("not for hiring")
    version = push(str(model), str(serving), extra_assets=[str(card)])
    assert (serving / os.path.basename(version) / "assets.extra" / "model_card.md").read_text() == "not for hiring"


def test_a_version_has_a_signed_manifest_of_all_its_files(model, serving, tmp_path):
    card = tmp_path / "model_card.md"
    card.write_text("not for hiring")
    private, public = write_keys(tmp_path / "keys")
    version = push(str(model), str(serving), extra_assets=[str(card)], signing_key=private)
    manifest.require_intact(version, public_key=public)
    files = {str(path.relative_to(version)) for path in Path(version).rglob("*") if path.is_file()}
    listed = manifest.Manifest.model_validate_json((Path(version) / MANIFEST_FILE).read_bytes()).files
    assert listed.keys() == files - {MANIFEST_FILE, SIGNATURE_FILE}
    assert {"saved_model.pb", "assets.extra/model_card.md", "assets.extra/source_model"} <= listed.keys()


def test_a_damaged_version_is_not_taken_for_pushed(model, serving):
    version = push(str(model), str(serving))
    (Path(version) / "saved_model.pb").write_bytes(b"grapH")
    with pytest.raises(ManifestError, match=r"saved_model\.pb"):
        push(str(model), str(serving))


def test_a_model_that_changed_after_its_validation_is_not_pushed(model, serving):
    validated = manifest.describe(str(model))
    (model / "saved_model.pb").write_bytes(b"grapH")
    with pytest.raises(ManifestError, match=r"saved_model\.pb"):
        push(str(model), str(serving), validated=validated)
    assert [entry.name for entry in serving.iterdir() if entry.name.isdigit()] == []


def test_two_pushes_within_a_second_have_two_versions(model, serving, tmp_path):
    first = push(str(model), str(serving))
    other = tmp_path / "other"
    model.rename(other)
    second = push(str(other), str(serving))
    assert int(os.path.basename(second)) > int(os.path.basename(first))


def test_the_version_of_a_model_is_found_among_newer_ones(model, serving, tmp_path):
    assert find_pushed(str(model), str(serving)) is None
    first = push(str(model), str(serving))
    other = tmp_path / "other"
    shutil.copytree(model, other)
    push(str(other), str(serving))
    assert find_pushed(str(model), str(serving)) == first
    assert find_pushed(str(tmp_path / "unknown"), str(serving)) is None


def test_a_killed_push_makes_no_version(model, serving, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_arguments, **_options):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(fileio, "rename", die)
        with pytest.raises(Killed):
            push(str(model), str(serving))
    assert [entry.name for entry in serving.iterdir() if entry.name.isdigit()] == []
    push(str(model), str(serving))
    (version,) = serving.iterdir()
    assert version.name.isdigit()


@pytest.mark.parametrize(("gate", "infra", "pushed"), [(1, 1, 1), (0, 1, 0), (1, 0, 0)])
def test_only_a_model_with_both_blessings_is_pushed(model, serving, tmp_path, gate, infra, pushed):
    trained, blessing, infra_blessing, out = (
        standard_artifacts.Model(),
        standard_artifacts.ModelBlessing(),
        standard_artifacts.InfraBlessing(),
        standard_artifacts.PushedModel(),
    )
    model.rename(tmp_path / "Format-Serving")
    trained.uri, blessing.uri, out.uri = str(tmp_path), str(tmp_path / "blessing"), str(tmp_path / "pushed")
    (tmp_path / "infra").mkdir()
    infra_blessing.uri = str(tmp_path / "infra")
    (tmp_path / "infra" / VALIDATED_FILE).write_bytes(manifest.describe(str(tmp_path / "Format-Serving")).json_bytes)
    private, public = write_keys(tmp_path / "keys")
    blessing.set_int_custom_property("blessed", gate)
    infra_blessing.set_int_custom_property("blessed", infra)
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(serving))
    )
    Executor().Do(
        {"model": [trained], "model_blessing": [blessing], "infra_blessing": [infra_blessing]},
        {"pushed_model": [out]},
        {
            "push_destination": proto_utils.proto_to_json(destination),
            "custom_config": json_utils.dumps({"signing_key": private}),
        },
    )
    if pushed:
        manifest.require_intact(out.uri, public_key=public)
    assert out.get_int_custom_property("pushed") == pushed
    assert serving.exists() == bool(pushed)
