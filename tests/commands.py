"""Commands in this process."""

from typing import NamedTuple

import pytest

from cli.main import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def ser(capsys: pytest.CaptureFixture[str], *words: object) -> Ended:
    """Run ``ser`` with these words."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return Ended(int(stopped.value.code or 0), *capsys.readouterr())
