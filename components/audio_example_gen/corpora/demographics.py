"""Age, race and ethnicity of CREMA-D's speakers, from the table that its authors publish."""

import posixpath
from collections.abc import Iterable

from components.audio_example_gen.corpora import crema_d, tables
from components.audio_example_gen.corpora.adapter import has_name
from modules.common import addresses

AGE, RACE, ETHNICITY = "age", "race", "ethnicity"


def demographics(data: str, speakers: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the group of CREMA-D's speakers by property: decade of age, race and ethnicity.

    The table is ``VideoDemographics.csv``, at any depth of the folder of recordings or in the folder above it.

    Args:
        data: Folder of recordings, local or in a bucket.
        speakers: Ids of the speakers, of any corpus.

    Returns:
        Group by id of the speaker, by name of the property. It is empty without a table or without such speakers.

    Raises:
        OSError: The table cannot be read.
        UnicodeError: It is not UTF-8.
    """
    prefix = f"{crema_d.NAME}-"
    actors = {speaker.removeprefix(prefix): speaker for speaker in speakers if speaker.startswith(prefix)}
    table = _table_of(data) if actors else None
    if table is None:
        return {}
    text = addresses.read_bytes(table).decode("utf-8-sig")
    rows = {(row.get("ActorID") or "").strip(): row for _, row in tables.records(text)}
    known = {speaker: rows[actor] for actor, speaker in actors.items() if actor in rows}
    return {
        AGE: {speaker: _decade(row.get("Age") or "") for speaker, row in known.items()},
        RACE: {speaker: (row.get("Race") or "").strip().lower() for speaker, row in known.items()},
        ETHNICITY: {speaker: (row.get("Ethnicity") or "").strip().lower() for speaker, row in known.items()},
    }


def _table_of(data: str) -> str | None:
    """Return the address of the table below a folder of recordings or next to it; None without one."""
    below = sorted(path for path in addresses.files(data) if has_name(path, crema_d.DEMOGRAPHICS_FILE))
    if below:
        return posixpath.join(data, below[0])
    above = posixpath.dirname(addresses.absolute(data).rstrip("/"))
    return posixpath.join(above, crema_d.DEMOGRAPHICS_FILE) if _is_in(above) else None


def _is_in(folder: str) -> bool:
    try:
        addresses.read_bytes(posixpath.join(folder, crema_d.DEMOGRAPHICS_FILE), max_bytes=1)
    except OSError:
        return False
    return True


def _decade(age: str) -> str:
    first = 10 * (int(age) // 10) if age.strip().isdecimal() else None
    return "unknown" if first is None else f"{first} to {first + 9}"
