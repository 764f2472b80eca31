import pytest

from modules.common import addresses
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


def test_a_walk_follows_links_into_each_folder_once(tmp_path):
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    for folder in (top / "a", elsewhere):
        folder.mkdir(parents=True)
        (folder / "clip.wav").touch()
    for link, target in {"linked": elsewhere, "linked again": elsewhere, "a/loop": top, "broken": "nowhere"}.items():
        (top / link).symlink_to(target)
    assert addresses.files(str(top)) == ["a/clip.wav", "linked/clip.wav"]
    assert str(top / "broken") in addresses.walk(str(top))
