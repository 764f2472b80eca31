"""The fingerprint of recordings in a bucket, by Beam's own client; on a disk in test_audio_example_gen.py."""

import os
import subprocess
import sys

from tests.fakes.storage import FakeStorage

PROGRAM = """
from components.audio_example_gen.fingerprint import fingerprint
print(fingerprint("level_1", "gs://data/span-1/*"))
"""


def fingerprint_of(cloud) -> str:
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=os.environ | cloud.environ, capture_output=True, text=True, check=True).stdout


def test_a_bucket_is_listed_and_names_count(tmp_path):
    with FakeStorage(tmp_path, "data") as cloud:
        for number in range(30):
            cloud.write_bytes(f"gs://data/span-1/{number}.wav", b"the same length")
        before, again = fingerprint_of(cloud), fingerprint_of(cloud)
        permissions = [permission for permission, _ in cloud.calls]
        for number in (0, 1):  # what renaming does in a bucket
            cloud.write_bytes(f"gs://data/span-1/{number}.wav", b"the same LENGTH")
        after = fingerprint_of(cloud)
    assert before.startswith("split:level_1,num_files:30,total_bytes:450,sha256:")
    assert again == before != after
    assert permissions.count("storage.objects.list") == 2  # one for each fingerprint
    assert "storage.objects.get" not in permissions
