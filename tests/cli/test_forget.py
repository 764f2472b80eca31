"""``ser corpus forget`` on recordings, artifacts recorded in a real ML Metadata, and logs."""

import functools
import hashlib
import json
from pathlib import Path

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2 as pb

from components.audio_example_gen.corpora.speaker_files import speaker_files
from modules.common import addresses
from modules.reporting.summary import Protocol
from pipeline import forget
from tests import commands

ANNA, BEN, EVE = "own-anna", "own-ben", "own-eve"
MANIFEST = (
    "path,emotion,speaker,note\r\n"
    'anna/01.wav,happy,anna,"loud, and\r\nlong"\r\n'
    "ben/01.wav,sad,ben,\r\n"
    "anna/02.wav,bored,anna,\r\n"  # an unknown emotion: a run would not use it
    "anna/03.wav,sad,anna,\r\n"  # no such file
    'ben/02.wav,happy,ben,"a\u2028b"\r\n'
    "eve/01.wav,happy,eve,\r\n"
)
WITHOUT_ANNA = (
    'path,emotion,speaker,note\r\nben/01.wav,sad,ben,\r\nben/02.wav,happy,ben,"a\u2028b"\r\neve/01.wav,happy,eve,\r\n'
)


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    write(folder, "own/anna/01.wav", "own/anna/02.wav", "own/ben/01.wav", "own/ben/02.wav", "own/eve/01.wav")
    (folder / "own" / "manifest.csv").write_text(MANIFEST, newline="")
    return folder


def outcome(path: str, speaker: str, split: str) -> str:
    clip = {"path": path, "corpus": "own", "emotion": "sad", "speaker": speaker, "sex": "unknown"}
    return json.dumps(clip | {"intensity": "unspecified", "split": split, "reason": ""}) + "\n"


class Runs:
    """Output folder of two runs: the first had anna (train) and ben (test), the second eve alone.

    Attributes:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(root / "metadata.sqlite")
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = mlmd.MetadataStore(config)
        self._types: dict[str, int] = {}
        self._run(1, outcome("own/anna/01.wav", ANNA, "train") + outcome("own/ben/01.wav", BEN, "test"), [ANNA], [BEN])
        self._run(2, outcome("own/eve/01.wav", EVE, "train"), [EVE], [])

    def folder(self, kind: str, number: int) -> Path:
        return self.root / "artifacts" / kind / str(number)

    def states(self) -> dict[str, int]:
        return {Path(each.uri).relative_to(self.root).as_posix(): each.state for each in self.store.get_artifacts()}

    def _run(self, number: int, clips: str, trained: list[str], tested: list[str]) -> None:
        examples = self._artifact(
            "Examples", "AudioExampleGen", number, {"clips.jsonl": clips, "Split-train/a.gz": "a"}
        )
        copy = self._execute([examples], "Examples", "Transform", number, {"Split-train/a.gz": "a"})
        model = self._execute([examples, copy], "Model", "Trainer", number, {"Format-Serving/saved_model.pb": "m"})
        protocol = Protocol(kind="speaker", speakers={"train": tuple(trained), "test": tuple(tested)}).hashed()
        files = {"protocol.json": protocol.model_dump_json()}
        self._execute([model], "ModelBlessing", "Blessing", number, files, current_model_id=model)
        self._execute([examples, model], "ModelEvaluation", "RunReport", number, {"report.html": "".join(trained)})
        version = self.root / "serving" / str(number) / "assets.extra"
        version.mkdir(parents=True)
        (version / "source_model").write_text(f"{self.folder('Trainer', number)}/Format-Serving")
        kept = self.root / "runs" / f"20261128-00000{number}"
        kept.mkdir(parents=True)
        (kept / "summary.json").write_text(json.dumps({"speakers": [*trained, *tested]}))
        (kept / "report.html").write_text("<p>")

    def _artifact(self, kind: str, node: str, number: int, files: dict[str, str], **properties: int) -> int:
        folder = self.folder(node, number)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        artifact = pb.Artifact(uri=str(folder), state=pb.Artifact.LIVE)
        artifact.type_id = self.store.put_artifact_type(pb.ArtifactType(name=kind))
        for name, value in properties.items():
            artifact.custom_properties[name].int_value = value
        return self.store.put_artifacts([artifact])[0]

    def _execute(self, inputs: list[int], kind: str, node: str, number: int, files: dict[str, str], **more: int) -> int:
        execution = pb.Execution(type_id=self.store.put_execution_type(pb.ExecutionType(name=node)))
        [made_by] = self.store.put_executions([execution])
        made = self._artifact(kind, node, number, files, **more)
        events = [pb.Event(artifact_id=each, execution_id=made_by, type=pb.Event.INPUT) for each in inputs]
        self.store.put_events([*events, pb.Event(artifact_id=made, execution_id=made_by, type=pb.Event.OUTPUT)])
        return made


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path / "output")


@pytest.fixture
def ser(capsys):
    return functools.partial(commands.ser, capsys)


def test_a_manifest_loses_the_rows_of_one_speaker_and_no_other_byte(data):
    found = speaker_files(ANNA, str(data))
    assert [Path(path).name for path in found.recordings] == ["01.wav", "02.wav"]
    assert dict(found.tables) == {str(data / "own" / "manifest.csv"): WITHOUT_ANNA}
    assert found.unknown == ()


def test_recordings_that_a_run_passes_over_are_found_by_their_speaker(tmp_path):
    write(
        tmp_path,
        *("AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3", "AudioWAV/1002_DFA_ANG_XX.wav"),
        *("emodb/03a01La.wav", "emodb/03a01Fa.wav", "song/03-02-03-01-01-01-07.wav", "interview.wav"),
    )
    (tmp_path / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n1002,21,Female\n")

    def found(speaker):
        return {
            Path(path).relative_to(tmp_path).as_posix() for path in speaker_files(speaker, str(tmp_path)).recordings
        }

    assert found("crema-d-1001") == {"AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3"}
    assert found("emodb-03") == {"emodb/03a01La.wav", "emodb/03a01Fa.wav"}
    assert found("ravdess-07") == {"song/03-02-03-01-01-01-07.wav"}
    tables = speaker_files("crema-d-1001", str(tmp_path)).tables
    assert list(tables.values()) == ["ActorID,Age,Sex\n1002,21,Female\n"]
    assert speaker_files("crema-d-1001", str(tmp_path)).unknown == (str(tmp_path / "interview.wav"),)


def test_rows_of_a_table_that_names_its_separator_are_removed(tmp_path):
    write(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav")
    (tmp_path / "VIDEODEMOGRAPHICS.CSV").write_text("sep=;\nActorID;Age\n1001;51\n1002;21\n")
    tables = speaker_files("crema-d-1001", str(tmp_path)).tables
    assert list(tables.values()) == ["sep=;\nActorID;Age\n1002;21\n"]


def test_a_speaker_has_the_same_id_in_every_span(tmp_path):
    for span in ("span-1", "span-2"):
        write(tmp_path / span, "own/01.wav")
        (tmp_path / span / "own" / "manifest.csv").write_text("path,emotion,speaker\n01.wav,sad,anna\n")
    found = speaker_files(ANNA, str(tmp_path))
    assert len(found.recordings) == len(found.tables) == 2


def test_without_yes_nothing_changes(data, runs, ser):
    before = names(data) | names(runs.root)
    status, out, _ = ser("corpus", "forget", ANNA, "--data", data, "--root", runs.root)
    assert status == 0
    assert str(data / "own" / "anna" / "02.wav") in out
    assert names(data) | names(runs.root) == before


def test_everything_of_one_speaker_is_removed_but_the_models(data, runs, ser):
    logs = runs.root.parent / "requests"
    write(logs, "requests-1.tfrecord", "other.txt")
    words = ("corpus", "forget", ANNA, "--data", data, "--root", runs.root, "--request-log-dir", logs, "--yes")
    status, out, _ = ser(*words)
    assert status == 0
    assert f"{runs.folder('Trainer', 1)}: trained on the speaker, pushed as 1" in out
    assert str(runs.folder("Trainer", 2)) not in out
    assert names(data) == {"own/manifest.csv", "own/ben/01.wav", "own/ben/02.wav", "own/eve/01.wav"}
    assert (data / "own" / "manifest.csv").read_bytes().decode() == WITHOUT_ANNA
    assert names(logs) == {"other.txt"}
    for kind, kept in (("AudioExampleGen", False), ("Transform", False), ("RunReport", False), ("Trainer", True)):
        assert runs.folder(kind, 1).exists() == kept
        assert runs.folder(kind, 2).exists()
    assert [path.name for path in (runs.root / "runs").iterdir()] == ["20261128-000002"]
    deleted = {uri for uri, state in runs.states().items() if state == pb.Artifact.DELETED}
    assert deleted == {f"artifacts/{node}/1" for node in ("AudioExampleGen", "Transform", "RunReport")}
    assert [path for path in runs.root.rglob("*") if path.is_file() and ANNA in path.read_text(errors="replace")] == []
    journal = [json.loads(line) for line in (runs.root / "deletions.jsonl").read_text().splitlines()]
    assert [record["state"] for record in journal] == ["started", "done"]
    assert {record["speaker_sha256"] for record in journal} == {hashlib.sha256(ANNA.encode()).hexdigest()}


def test_a_model_is_named_after_its_examples_were_removed_for_another_speaker(data, runs):
    forget.carry_out(ANNA, data=[str(data)], root=runs.root)
    (model,) = forget.plan(BEN, data=[str(data)], root=runs.root).models
    assert model == forget.Model(address=str(runs.folder("Trainer", 1)), trained=False, versions=("1",))


@pytest.mark.parametrize("survived", [0, 1])
def test_an_interrupted_deletion_is_completed_by_the_next(data, runs, monkeypatch, survived):
    remove, removed = addresses.remove, []

    def fail(address):
        if len(removed) == survived:
            raise OSError("disk gone")
        removed.append(address)
        remove(address)

    with monkeypatch.context() as patched:
        patched.setattr(addresses, "remove", fail)
        with pytest.raises(OSError, match="disk gone"):
            forget.carry_out(ANNA, data=[str(data)], root=runs.root)
    repeated = forget.carry_out(ANNA, data=[str(data)], root=runs.root)
    assert len(repeated.recordings) == 2 - survived
    assert [model.address for model in repeated.models] == [str(runs.folder("Trainer", 1))]
    assert (data / "own" / "manifest.csv").read_bytes().decode() == WITHOUT_ANNA
    assert forget.carry_out(ANNA, data=[str(data)], root=runs.root).removes == 0


def test_a_speaker_with_a_longer_name_is_another(data, runs):
    (runs.root / "runs" / "20261128-000002" / "summary.json").write_text(json.dumps({"speakers": [f"{ANNA}-maria"]}))
    forget.carry_out(ANNA, data=[str(data)], root=runs.root)
    assert (runs.root / "runs" / "20261128-000002").exists()


def test_an_unknown_speaker_is_refused(data, runs, ser):
    with pytest.raises(forget.UnknownSpeaker) as refused:
        forget.plan("own-nobody", data=[str(data)], root=runs.root)
    assert refused.value.code == "forget.unknown_speaker"
    assert ser("corpus", "forget", "own-nobody", "--data", data, "--root", runs.root, "--yes")[0] == 2


def test_artifacts_outside_of_the_root_are_not_removed(data, runs):
    moved = runs.root.parent / "moved"
    moved.mkdir()
    (moved / "metadata.sqlite").write_bytes((runs.root / "metadata.sqlite").read_bytes())
    before = names(data) | names(runs.root)
    with pytest.raises(forget.MovedRoot) as refused:
        forget.carry_out(ANNA, data=[str(data)], root=moved)
    assert refused.value.code == "forget.moved_root"
    assert names(data) | names(runs.root) == before
