"""Arrays too large for memory, in files that are read and written by rows."""

import math
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Literal, Self, overload

import numpy as np
from numpy.typing import DTypeLike

_DTYPE = np.dtype(np.float32)


class ArrayOnDisk:
    """A float32 array in a file; memory holds only the rows in use.

    As in NumPy, a slice of rows shares the data, and an array of row numbers gives a copy. The file is mapped for each
    access alone, so pages that were read do not count as memory of the process afterwards.

    Attributes:
        shape: Shape of the array.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], *, first_row: int = 0) -> None:
        """Use the values of an open file.

        Args:
            file: File of float32 values in C order, without a header; writable if rows are written.
            shape: Shape of the array.
            first_row: Row of the file where the array starts.
        """
        self.shape = shape
        self._file, self._first_row = file, first_row

    @classmethod
    def temporary(cls, shape: tuple[int, ...]) -> Self:
        """Return zeros in a file without a name, which the system removes with the array.

        The file lies in ``$TMPDIR``, or else in ``/var/tmp``, since ``/tmp`` may be memory.

        Args:
            shape: Shape of the array.

        Raises:
            OSError: The disk has no room.
        """
        return cls._zeros(tempfile.TemporaryFile(dir=os.environ.get("TMPDIR") or "/var/tmp"), shape)

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...]) -> Self:
        """Return zeros in a new file; one that exists is replaced.

        Args:
            path: The file.
            shape: Shape of the array.

        Raises:
            OSError: The file cannot be written.
        """
        return cls._zeros(path.open("w+b"), shape)

    @classmethod
    def open(cls, path: Path, row_shape: tuple[int, ...]) -> Self:
        """Return the array that a file holds, to read only.

        Args:
            path: The file.
            row_shape: Shape of one row.

        Raises:
            OSError: The file cannot be read.
        """
        rows = path.stat().st_size // (_DTYPE.itemsize * math.prod(row_shape))
        return cls(path.open("rb"), (rows, *row_shape))

    @classmethod
    def _zeros(cls, file: BinaryIO, shape: tuple[int, ...]) -> Self:
        size = _DTYPE.itemsize * math.prod(shape)
        if size:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk fails here instead of in a mapped page
        return cls(file, shape)

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, rows: slice) -> Self: ...

    @overload
    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...

    def __getitem__(self, rows: slice | np.ndarray) -> Self | np.ndarray:
        """Return a slice as an array on disk, or the numbered rows in memory."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise ValueError(f"the slice has a step of {step}; allowed: 1")
            shape = (max(stop - start, 0), *self.shape[1:])
            return type(self)(self._file, shape, first_row=self._first_row + start)
        return np.array(self._mapped("r")[rows]) if len(self) else np.empty((0, *self.shape[1:]), _DTYPE)

    def __setitem__(self, rows: slice | np.ndarray, values: np.ndarray) -> None:
        """Write rows."""
        if len(values):
            self._mapped("r+")[rows] = values

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Return all rows in memory."""
        return np.asarray(self[np.arange(len(self))], dtype)

    def _mapped(self, mode: Literal["r", "r+"]) -> np.memmap:
        offset = self._first_row * math.prod(self.shape[1:]) * _DTYPE.itemsize
        return np.memmap(self._file, _DTYPE, mode, offset=offset, shape=self.shape)
