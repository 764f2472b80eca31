import numpy as np
import pytest

from modules.common.arrays import ArrayOnDisk

SHAPE = (5, 2, 3)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def array(values) -> ArrayOnDisk:
    made = ArrayOnDisk.temporary(SHAPE)
    made[:] = values
    return made


def test_rows_by_number_are_those_of_numpy(array, values):
    for rows in (np.array([4, 0, 0]), np.array([], np.int64), np.array([True, False, True, False, False])):
        np.testing.assert_array_equal(array[rows], values[rows])
    np.testing.assert_array_equal(array, values)


def test_a_slice_shares_the_file(array, values):
    part = array[1:4]
    part[1:2] = np.zeros((1, 2, 3), np.float32)
    values[2] = 0
    np.testing.assert_array_equal(array, values)
    np.testing.assert_array_equal(part[1:], values[2:4])
    assert len(array[4:2]) == 0


def test_a_step_is_refused(array):
    with pytest.raises(ValueError, match="2"):
        array[::2]


def test_a_file_is_read_again(values, tmp_path):
    ArrayOnDisk.create(tmp_path / "features", SHAPE)[:] = values
    np.testing.assert_array_equal(ArrayOnDisk.open(tmp_path / "features", SHAPE[1:]), values)


def test_temporary_files_have_no_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ArrayOnDisk.temporary(SHAPE)[:] = np.ones(SHAPE, np.float32)
    assert not list(tmp_path.iterdir())


def test_an_array_without_rows(tmp_path):
    for empty in (ArrayOnDisk.temporary((0, 3)), ArrayOnDisk.create(tmp_path / "empty", (0, 3))):
        empty[:] = np.empty((0, 3), np.float32)
        assert np.asarray(empty).shape == (0, 3)
