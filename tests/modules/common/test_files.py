import pytest

from modules.common.files import write_whole


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "summary.json"
    for text in ("first", "größer"):
        write_whole(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_former_file(tmp_path):
    path = tmp_path / "summary.json"
    write_whole(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half a pair: \ud800")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
