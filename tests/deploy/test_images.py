"""Build and run of the images by deploy/images/check.sh, if the machine allows it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "deploy" / "images" / "check.sh"
NEEDED_GB = 30


def reason_to_skip() -> str | None:
    missing = [tool for tool in ("buildah", "debootstrap", "ip") if not shutil.which(tool)]
    if missing:
        return f"{', '.join(missing)} not found: apt install buildah debootstrap iproute2"
    if os.getuid():
        return "debootstrap needs root"
    free_gb = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    return f"{free_gb:.0f} GB are free, {NEEDED_GB} are needed" if free_gb < NEEDED_GB else None


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_images_build_and_run():
    if reason := reason_to_skip():
        pytest.skip(reason)
    done = subprocess.run([CHECK], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout + done.stderr


def test_an_unknown_target_is_refused():
    done = subprocess.run([CHECK, "gpus"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert all(name in done.stderr for name in ("gpus", "pipeline", "gpu", "worker", "page", "serving", "compose"))
