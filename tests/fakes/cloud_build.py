"""An interpreter for the part of ``cloudbuild.yaml`` that decides what runs: substitutions and scripts.

The rules are those of Google's cloud-build-local (``subst/subst.go``) and of the documentation page "Substitute
variable values": ``$$`` is a dollar sign, ``$KEY`` and ``${KEY}`` are replaced where KEY consists of capitals, digits
and underscores, everything else stays. The hosted service refuses unknown keys, and declared ones that nothing uses.
Containers do not run: a step's script runs on this machine, with the programs of a folder in front of PATH.
"""

import dataclasses
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

BUILT_IN = {
    "PROJECT_ID": "example-project",
    "BUILD_ID": "00000000-0000-0000-0000-000000000000",
    "COMMIT_SHA": "0123456789abcdef0123456789abcdef01234567",
}
_PARAMETER = re.compile(r"\$(?:\$|\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]*))")


@dataclasses.dataclass(frozen=True)
class Step:
    """A step after substitution."""

    id: str
    name: str
    args: tuple[str, ...]
    entrypoint: str | None
    wait_for: tuple[str, ...]

    @property
    def script(self) -> str | None:
        """The text that bash runs, if the step is a script."""
        return self.args[-1] if self.entrypoint == "bash" else None

    def run(self, checkout: Path, workspace: Path, programs: Path) -> subprocess.CompletedProcess[str]:
        """Run the script in a checkout, with folders below ``workspace`` in place of /workspace and /tmp."""
        for place in ("workspace", "tmp"):
            (workspace / place).mkdir(exist_ok=True)
        script = re.sub(r"(?<![\w.])/(workspace|tmp)\b", lambda match: str(workspace / match[1]), self.script)
        environ = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": "/builder/home"}
        command = ["bash", *self.args[:-1], script]
        return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)


class Build:
    """A configuration with values for its substitutions.

    Attributes:
        steps: By id, in order.
        options: The section ``options``.
        raw_steps: Before substitution.
    """

    def __init__(self, path: Path, given: dict[str, str]) -> None:
        """Raise ValueError for values that the service refuses."""
        content = yaml.safe_load(path.read_text())
        declared: dict[str, str] = content["substitutions"]
        if undeclared := set(given) - set(declared):
            raise ValueError(f"{sorted(undeclared)} are not declared; the file has {sorted(declared)}")
        self._used: set[str] = set()
        values = BUILT_IN | declared | given
        values = {key: self._substitute(self._substitute(text, values), values) for key, text in values.items()}
        self.options: dict[str, Any] = content["options"]
        self.raw_steps: list[dict[str, Any]] = content["steps"]
        self.steps = {step["id"]: self._step(step, values) for step in self.raw_steps}
        if unused := set(declared) - self._used:
            raise ValueError(f"{sorted(unused)} are declared and not used: remove them")

    def _step(self, step: dict[str, Any], values: dict[str, str]) -> Step:
        return Step(
            id=step["id"],
            name=self._substitute(step["name"], values),
            args=tuple(self._substitute(text, values) for text in step["args"]),
            entrypoint=step.get("entrypoint"),
            wait_for=tuple(step.get("waitFor", ())),
        )

    def _substitute(self, text: str, values: dict[str, str]) -> str:
        def replace(match: re.Match[str]) -> str:
            key = match[1] or match[2]
            if key is None:
                return "$"
            if key not in values:
                raise ValueError(f"{key} is not a substitution: write $${key} for a variable of the shell")
            self._used.add(key)
            return values[key]

        return _PARAMETER.sub(replace, text)
