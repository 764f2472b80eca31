"""Age, race and ethnicity of CREMA-D's speakers."""

import pytest

from components.audio_example_gen.corpora.demographics import demographics

TABLE = """"ActorID","Age","Sex","Race","Ethnicity"
1001,51,"Male","Caucasian","Not Hispanic"
1002,21,"Female","African American","Hispanic"
1003,,"Female","Asian","Not Hispanic"
"""
SPEAKERS = ["crema-d-1001", "crema-d-1002", "crema-d-1003", "crema-d-1099", "ravdess-01"]


@pytest.mark.parametrize(
    "place", ["VideoDemographics.csv", "data/VideoDemographics.csv", "data/a/VideoDemographics.csv"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_table_is_below_the_recordings_or_next_to_them(tmp_path, place, mark):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / place).write_text(mark + TABLE)
    groups = demographics(str(tmp_path / "data"), SPEAKERS)
    assert groups == {
        "age": {"crema-d-1001": "50 to 59", "crema-d-1002": "20 to 29", "crema-d-1003": "unknown"},
        "race": {"crema-d-1001": "caucasian", "crema-d-1002": "african american", "crema-d-1003": "asian"},
        "ethnicity": {
            "crema-d-1001": "not hispanic", "crema-d-1002": "hispanic", "crema-d-1003": "not hispanic",
        },
    }  # fmt: skip


def test_without_a_table_or_such_speakers_there_are_no_groups(tmp_path):
    (tmp_path / "data").mkdir()
    assert demographics(str(tmp_path / "data"), SPEAKERS) == {}
    (tmp_path / "VideoDemographics.csv").write_text(TABLE)
    assert demographics(str(tmp_path / "data"), ["ravdess-01"]) == {}
