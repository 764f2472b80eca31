"""A rollout by labels under TF Serving's own rules, which the embedded server does not all have."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from modules.export import manifest
from modules.export.manifest import ManifestError, SignatureError
from serving.rollout.journal import Journal
from serving.rollout.state import ConcurrentChange, UnusableFile, UnusablePlace, VersionNotLoaded, VersionNotVerified
from serving.rollout.tf_serving import TfServingTarget
from tests.fakes.tf_serving import FakeTfServing
from tests.keys import write_keys

NEWEST = """
# Kept.
model_config_list {
  config { name: "ser" base_path: "/models/ser" model_platform: "tensorflow"
           model_version_policy { latest { num_versions: 1 } } }
}
"""


@pytest.fixture
def models_config(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(NEWEST)
    return file


@pytest.fixture
def host():
    """A server of the newest of two versions, as after a push."""
    return FakeTfServing({3, 4}, served=[4])


@pytest.fixture
def target(host, models_config):
    with host.listening() as address:
        target = TfServingTarget(address, models_config=models_config, appear_sec=1, load_timeout_sec=60)
        yield target
        target.close()


def versions(state):
    return tuple(deployed.version if deployed else None for deployed in (state.stable, state.canary))


def model_of(models_config):
    config = model_server_config_pb2.ModelServerConfig()
    (model,) = text_format.Parse(models_config.read_text(), config).model_config_list.config
    return model


def test_every_change_keeps_the_labels_on_loaded_versions(host, target, models_config):
    assert versions(target.state()) == ("4", None)
    assert versions(target.start_canary("4", stable="3")) == ("3", "4")
    assert (host.labels, host.available) == ({"stable": 3, "canary": 4}, [3, 4])
    assert versions(target.abort()) == ("3", None)
    assert host.available == [3]
    target.start_canary("4")  # loads again what was unloaded before
    assert versions(target.promote()) == ("4", None)
    assert target.state().stable.percent == 100
    host.on_disk.add(5)
    target.start_canary("5")
    state = target.rollback()
    assert versions(state) == ("4", None)
    assert state.stable.percent == 100  # 5 is gone when it returns
    target.start_canary("5")
    target.promote()
    assert versions(target.rollback()) == ("4", None)
    assert versions(target.rollback()) == ("3", None)
    assert (host.labels, host.available) == ({"stable": 3, "canary": 3}, [3])
    assert host.refused == []
    assert host.dangling == []
    model = model_of(models_config)
    assert (list(model.model_version_policy.specific.versions), dict(model.version_labels)) == ([3], host.labels)
    assert model.base_path == "/models/ser"
    assert "# Kept.\n" in models_config.read_text()


@pytest.mark.parametrize(
    ("version", "value"),
    [("9", "version 9"), ("5", "version 5 .*out of memory")],
)
def test_a_version_that_does_not_load_changes_nothing(host, target, models_config, version, value):
    host.on_disk.add(5)
    host.broken[5] = "out of memory"
    target.start_canary("4", stable="3")
    target.abort()
    before = models_config.read_text()
    with pytest.raises(VersionNotLoaded, match=value):
        target.start_canary(version)
    assert versions(target.state()) == ("3", None)
    assert (host.labels, host.available) == ({"stable": 3, "canary": 3}, [3])
    assert models_config.read_text() == before
    assert host.dangling == []


def test_a_canary_that_can_be_read_is_verified(host, target, models_config, tmp_path):
    private, public = write_keys(tmp_path / "keys")
    with pytest.raises(VersionNotVerified):  # /models/ser is a folder of the server's machine
        target.start_canary("3", stable="4", public_key=public)
    models_config.write_text(NEWEST.replace("/models/ser", str(tmp_path)))
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"graph")
    with pytest.raises(SignatureError):
        target.start_canary("3", stable="4", public_key=public)
    manifest.write(str(tmp_path / "3"), signing_key=private)
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"grapH")
    with pytest.raises(ManifestError):
        target.start_canary("3", stable="4")
    assert (host.labels, host.available) == ({}, [4])
    manifest.write(str(tmp_path / "3"), signing_key=private)
    assert versions(target.start_canary("3", stable="4", public_key=public)) == ("4", "3")


def version_folders(folder, *numbers):
    for number in numbers:
        (folder / str(number) / "variables").mkdir(parents=True)
        (folder / str(number) / "saved_model.pb").write_bytes(b"graph")
    (folder / "deployed").mkdir()
    (folder / ".removed-1").mkdir()


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_only_versions_without_use_are_pruned(host, target, models_config, tmp_path):
    base = tmp_path / "base"
    version_folders(base, 1, 2, 3, 4, 5, 6, 7, 20)
    models_config.write_text(NEWEST.replace("/models/ser", str(base)))
    host.on_disk |= {2, 5, 6}
    target.start_canary("5", stable="4")
    target.promote()
    target.start_canary("3")
    before = names(base)
    listed = target.prune(keep=1, remove=False)
    assert names(base) == before
    assert listed.removed == (1, 2)
    assert listed.kept == {
        3: "label canary",
        4: "previous stable version",
        5: "label stable",
        6: "newer than the stable version",
        7: "newer than the stable version",
        20: "newer than the stable version",
    }
    assert target.prune(keep=1, remove=True) == listed
    assert names(base) == {"3", "4", "5", "6", "7", "20", "deployed"}
    target.abort()
    assert target.prune(keep=1, remove=True).removed == (3,)
    assert versions(target.rollback()) == ("4", None)


def test_the_newest_versions_are_kept_as_many_as_named(host, target, models_config, tmp_path):
    base = tmp_path / "base"
    version_folders(base, 1, 2, 3, 4)
    models_config.write_text(NEWEST.replace("/models/ser", str(base)))
    assert target.prune(keep=2, remove=False).removed == (1, 2)
    assert target.prune(keep=9, remove=False).removed == ()


def test_a_base_path_that_cannot_be_read_is_not_pruned(host, target):
    with pytest.raises(UnusablePlace):
        target.prune(keep=1, remove=True)


def test_versions_are_not_pruned_while_another_rollout_changes_them(host, target, models_config, tmp_path):
    version_folders(tmp_path / "base", 1, 4)
    models_config.write_text(NEWEST.replace("/models/ser", str(tmp_path / "base")))
    with Journal(models_config.with_name("models.config.rollouts.jsonl")).locked(), pytest.raises(ConcurrentChange):
        target.prune(keep=1, remove=True)
    assert (tmp_path / "base" / "1").exists()


def test_a_fixed_version_loads_at_the_next_attempt(host, target):
    host.on_disk.add(5)
    host.broken[5] = "out of memory"
    target.start_canary("4", stable="3")
    target.abort()
    with pytest.raises(VersionNotLoaded, match="out of memory"):
        target.start_canary("5")
    del host.broken[5]
    assert versions(target.start_canary("5")) == ("3", "5")  # although its old error is still reported


def test_a_failed_first_canary_keeps_the_newest_version(host, target, models_config):
    host.on_disk.add(5)
    host.broken[5] = "out of memory"
    with pytest.raises(VersionNotLoaded, match="out of memory"):
        target.start_canary("5")
    assert versions(target.state()) == ("4", None)
    assert (host.labels, models_config.read_text()) == ({}, NEWEST)


def test_the_server_takes_precedence_over_the_file(host, target, models_config):
    """As after a process that was killed between changing the server and the file."""
    target.start_canary("4", stable="3")
    models_config.write_text(NEWEST)
    host.on_disk.add(5)
    assert versions(target.state()) == ("3", "4")
    target.abort()
    host.broken[5] = "out of memory"
    models_config.write_text(NEWEST)
    with pytest.raises(VersionNotLoaded, match="out of memory"):
        target.start_canary("5")
    assert host.labels == {"stable": 3, "canary": 3}
    assert versions(target.state()) == ("3", None)


def test_a_file_without_the_model_is_refused(target, models_config):
    text = NEWEST.replace("}\n}", '}\n  config { name: "other" base_path: "/models/other" }\n}')
    models_config.write_text(text.replace('"ser"', '"another"'))
    with pytest.raises(UnusableFile, match=r"\['another', 'other'\].*'ser'"):
        target.start_canary("4", stable="3")
    models_config.write_text("nonsense {")
    with pytest.raises(UnusableFile, match=str(models_config)):
        target.start_canary("4", stable="3")


def test_the_journal_returns_champions_and_times(tmp_path):
    journal = Journal(tmp_path / "journal")
    assert journal.since("stable", "3") is None
    for action, stable, canary in (
        ("canary", "3", "4"),
        ("promote", "4", None),
        ("canary", "4", "5"),
        ("promote", "5", None),
        ("rollback", "4", None),
        ("canary", "4", "6"),
    ):
        journal.append(action=action, stable=stable, canary=canary)
    assert journal.champion_before("4") == "3"  # not 5, which was rolled back
    assert journal.champion_before("3") is None
    assert journal.champion_before("8") is None
    assert journal.since("stable", "4") is not None
    assert journal.since("canary", "6") is not None
    assert journal.since("canary", "5") is None
    (tmp_path / "journal").write_text("{}\n")
    with pytest.raises(UnusableFile, match=str(tmp_path / "journal")):
        journal.champion_before("4")
