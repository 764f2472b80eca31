"""Damaged files of the benchmark; the server's part takes minutes."""

from benchmarks import reliability


def test_damaged_files_are_read_or_refused():
    files = list(reliability.hostile_files(60))
    assert len(set(files)) > 50
    row = reliability.decode_all(files)
    assert (row.tried, row.failures) == (60, 0)
    assert " read, " in row.outcome
