"""`make audit`: pip-audit itself, with a service of vulnerabilities on this machine in place of pypi.org."""

import contextlib
import datetime
import http.server
import json
import shutil
import subprocess
import threading

import pytest

from tests.paths import ROOT
from tests.tools import tool

JOBLIB, PYARROW = (f"{package} --hash=sha256:{64 * '0'}\n" for package in ("joblib==1.6.0", "pyarrow==18.1.0"))
ONE_LOCK = {"requirements.lock": JOBLIB + PYARROW}
LOCKS = subprocess.run(
    ["git", "grep", "--files-with-matches", "-e", "--hash=sha256:[0-9a-f]", "--", "*.lock", "*.txt"],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
).stdout.split()
TODAY = datetime.datetime.now(datetime.UTC).date()


class Vulnerabilities(http.server.BaseHTTPRequestHandler):
    """OSV's ``/v1/query``: pyarrow has one vulnerability, under two names."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = {"id": "PYSEC-1", "aliases": ["CVE-1"], "summary": "", "affected": []}
        body = json.dumps({"vulns": [found]} if asked["package"]["name"] == "pyarrow" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vulnerabilities)
    threading.Thread(target=server.serve_forever).start()
    with contextlib.closing(server.socket):
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


@pytest.fixture
def audit(tmp_path, address):
    """Function that audits locks, by name and content, with exceptions."""
    (tmp_path / "environment").mkdir()
    shutil.copy(ROOT / "environment" / "audit.sh", tmp_path / "environment")

    def run(exceptions: str, locks: dict[str, str] = ONE_LOCK) -> subprocess.CompletedProcess[str]:
        for name, packages in locks.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(packages)
        (tmp_path / "environment" / "audit_exceptions.txt").write_text(exceptions)
        service = ["--vulnerability-service", "osv", "--osv-url", address, "--cache-dir", tmp_path / "cache"]
        command = [tmp_path / "environment" / "audit.sh", tool("checks/bin/pip-audit"), *service]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ("exceptions", "status"),
    [
        ("", 1),
        (f"# PYSEC-1 {TODAY} pyarrow: a comment\n", 1),
        (f"PYSEC-1 {TODAY} pyarrow: no fixed version\n", 0),
        (f"CVE-1 {TODAY} pyarrow: no fixed version\n", 0),
        (f"PYSEC-1 {TODAY - datetime.timedelta(days=1)} pyarrow: no fixed version\n", 1),
        (f"PYSEC-2 {TODAY} pyarrow: another vulnerability\n", 1),
    ],
    ids=["none", "comment", "named", "by alias", "expired", "other"],
)
def test_a_vulnerability_fails_the_audit_unless_it_is_accepted_today(audit, exceptions, status):
    done = audit(exceptions)
    assert done.returncode == status, done.stderr
    assert status == 0 or "pyarrow 18.1.0  PYSEC-1" in done.stdout
    assert ("was accepted until" in done.stderr) is (str(TODAY - datetime.timedelta(days=1)) in exceptions)


def test_every_lock_is_audited_after_one_that_fails_too(audit):
    *locks, last = LOCKS
    done = audit("", dict.fromkeys(locks, PYARROW) | {last: JOBLIB})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"audit.sh: the audit of {' '.join(locks)} failed"
    assert [line.removesuffix(":") for line in done.stdout.splitlines() if line.endswith(":")] == LOCKS


@pytest.mark.parametrize("line", ["PYSEC-1", f"PYSEC-1 {TODAY}", "PYSEC-1 pyarrow: no day", "PYSEC-1 tomorrow pyarrow"])
def test_an_exception_without_day_or_reason_is_refused(audit, line):
    done = audit(f"{line}\n")
    assert done.returncode == 1
    assert "last day as YYYY-MM-DD" in done.stderr
    assert not done.stdout


def test_the_exceptions_name_packages_of_the_lock():
    lock = (ROOT / "requirements.lock").read_text()
    for line in (ROOT / "environment" / "audit_exceptions.txt").read_text().splitlines():
        if not line.startswith("#"):
            assert f"\n{line.split()[2]}==" in lock, line
