"""Files that are whole or absent."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes UTF-8 aside and renames it, so that a reader finds the former file or the new one, never half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
