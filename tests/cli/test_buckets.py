"""Commands on buckets; ``ser predict`` on a bucket is tested in the compiled pipeline."""

import collections
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from cli.main import main
from components.atomic_pusher.executor import push
from components.audio_example_gen.corpora.arrive import ARRIVING_FILE
from modules.common import addresses
from modules.demo_corpus.corpus import write_corpus
from tests.cli.test_drift import SPEC, write_examples
from tests.fakes.storage import FakeStorage

CLIPS = 24 * 7  # each emotion of each speaker


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    write_corpus(folder, clips=CLIPS, seed=0)
    return folder


@pytest.fixture
def ser(capsys) -> Callable[..., tuple[int, str]]:
    """Function that runs a command, and returns its exit code and output."""

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run


def wavs(storage: FakeStorage, prefix: str) -> list[str]:
    return [address for address in storage.addresses(prefix) if address.endswith(".wav")]


def contents(storage: FakeStorage, *prefixes: str) -> collections.Counter[bytes]:
    return collections.Counter(storage.read_bytes(wav) for prefix in prefixes for wav in wavs(storage, prefix))


def test_scan_counts_recordings_and_names_unusable_files(demo, storage, ser):
    storage.upload(demo, "gs://data/recordings")
    storage.write_bytes("gs://data/recordings/Actor_01/broken.wav", b"no sound")
    status, printed = ser("corpus", "scan", "gs://data/recordings")
    assert status == 0
    assert f"{CLIPS} clips" in printed
    assert "Actor_01/broken.wav: " in printed


@pytest.mark.parametrize(
    ("address", "value"), [("gs://data/absent", "gs://data/absent"), ("gs://no-bucket/x", "gs://")]
)
def test_a_missing_folder_is_one_line(demo, storage, ser, address, value):
    for words in (
        ["corpus", "scan", address],
        ["drift", address, address],
        ["predict", "--model-base-path", address, str(next(demo.rglob("*.wav")))],
    ):
        status, printed = ser(*words)
        assert status == 2, printed
        assert value in printed
        assert "Traceback" not in printed


def test_a_bucket_without_read_access_is_one_line(storage, ser):
    storage.denied.add("storage.objects.list")
    status, printed = ser("corpus", "scan", "gs://data/recordings")
    assert status == 1
    assert "storage.objects.list" in printed
    assert "Traceback" not in printed


def test_drift_compares_recordings_in_a_bucket_with_local_ones(demo, storage, ser):
    storage.upload(demo, "gs://data/recordings")
    status, printed = ser("drift", str(demo), "gs://data/recordings")
    assert status == 0, printed
    assert f"{CLIPS} clips of 24 speakers against {CLIPS} clips of 24 speakers, 24 of them in both" in printed


def test_drift_finds_the_reference_of_a_model_in_a_bucket(storage, ser, tmp_path):
    storage.upload(Path(write_examples(tmp_path / "reference", seed=0)), "gs://data/examples")
    assets = "gs://models/ser/3/assets.extra"
    storage.write_bytes(f"{assets}/audio_spec.json", SPEC.to_json().encode())
    storage.write_bytes(f"{assets}/training_examples", b"gs://data/examples")
    for models in ("gs://models/ser", "gs://models/ser/3"):
        status, printed = ser("drift", models, write_examples(tmp_path / models[-1], seed=1), "--permutations=100")
        assert status == 0, printed
        assert "126 clips of 6 speakers against 126 clips" in printed


def test_evaluate_of_a_bucket_names_the_copy_command(ser):
    status, printed = ser("evaluate", "--data", "gs://data/recordings")
    assert status == 2
    assert "gcloud storage cp -r gs://data/recordings ." in printed


def test_recordings_arrive_from_a_bucket_and_from_a_folder(demo, storage, ser, tmp_path):
    (tmp_path / "reservoir").mkdir()
    storage.upload(demo, "gs://data/reservoir")
    storage.download("gs://data/reservoir", tmp_path / "reservoir")
    before = contents(storage, "gs://data/reservoir")
    for reservoir, into in (
        ("gs://data/reservoir", "gs://data/spans"),
        (str(tmp_path / "reservoir"), "gs://data/more"),
    ):
        for number in (1, 2):
            status, printed = ser("corpus", "arrive", "--reservoir", reservoir, "--into", into, "--clips", "40")
            assert status == 0, printed
            assert f"{into}/span-{number}: 40 clips" in printed
        assert len(wavs(storage, f"{into}/span-1/")) == len(wavs(storage, f"{into}/span-2/")) == 40
    assert contents(storage, "gs://data/reservoir", "gs://data/spans/") == before
    assert len(list((tmp_path / "reservoir").rglob("*.wav"))) == CLIPS - 80


def test_the_next_arrival_ends_an_interrupted_one(demo, storage, ser):
    storage.upload(demo, "gs://data/reservoir")
    before = contents(storage, "gs://data/reservoir")
    words = ["corpus", "arrive", "--reservoir", "gs://data/reservoir", "--into", "gs://data/spans", "--clips", "20"]
    assert ser(*words)[0] == 0
    storage.denied.add("storage.objects.delete")  # it can copy, but not complete the move
    status, printed = ser(*words)
    assert status == 1
    assert "storage.objects.delete" in printed
    assert storage.read_text(f"gs://data/spans/{ARRIVING_FILE}") == "span-2"
    storage.denied.clear()
    assert "gs://data/spans/span-2: 20 clips" in ser(*words)[1]
    assert contents(storage, "gs://data/reservoir", "gs://data/spans") == before
    assert f"gs://data/spans/{ARRIVING_FILE}" not in storage.addresses("gs://data/spans")


def test_a_push_interrupted_in_its_renames_is_not_visible(storage, tmp_path):
    files = {"saved_model.pb", "variables/variables.index", "assets.extra/labels.json"}
    for name in files:
        storage.write_bytes(f"gs://models/trained/{name}", name.encode())
    storage.denied.add("storage.objects.delete")
    with pytest.raises(tf.errors.PermissionDeniedError):
        push("gs://models/trained", "gs://models/ser")
    storage.denied.clear()
    version = push("gs://models/trained", "gs://models/ser")
    assert files < set(addresses.files(version))
    assert {path.partition("/")[0] for path in addresses.files("gs://models/ser")} == {version.rpartition("/")[2]}


def test_addresses_work_the_same_in_folder_and_bucket(storage, tmp_path):
    for folder in (str(tmp_path / "local"), "gs://data/folder"):
        addresses.write_bytes(f"{folder}/a/b.txt", b"0123456789")
        addresses.write_bytes(f"{folder}/c.txt", b"c")
        assert addresses.files(folder) == ["a/b.txt", "c.txt"]
        assert [addresses.is_folder(f"{folder}{below}") for below in ("", "/a", "/c.txt", "/d")] == [
            True,
            True,
            False,
            False,
        ]
        assert addresses.read_bytes(f"{folder}/a/b.txt", max_bytes=4) == b"0123"
        addresses.remove(f"{folder}/c.txt")
        assert addresses.files(folder) == ["a/b.txt"]
        with pytest.raises(FileNotFoundError):
            addresses.read_bytes(f"{folder}/absent")
        assert addresses.absolute(folder) == folder
