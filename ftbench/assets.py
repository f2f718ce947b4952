"""The images and texts of a catalogue by id, read from memory-mapped tables. Must not know how they were written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ftbench.images import decoded


class Column(Sequence):
    """One column of a memory-mapped Arrow table as a sequence of Python values: nothing is read before it is asked for.

    Lists come as tuples, so that a value is the same whichever way it was asked for.
    """

    def __init__(self, column):
        self._column = column

    @cached_property
    def _starts(self) -> np.ndarray:
        return _starts(self._column)

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return tuple(self[j] for j in range(*i.indices(len(self))))
        i = int(i) + (len(self) if i < 0 else 0)
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of a column of {len(self)}")
        chunk = int(np.searchsorted(self._starts, i, side="right")) - 1
        return _plain(self._column.chunk(chunk)[i - int(self._starts[chunk])].as_py())

    def __iter__(self) -> Iterator:
        for chunk in self._column.chunks:
            for start in range(0, len(chunk), 10_000):
                yield from map(_plain, chunk[start : start + 10_000].to_pylist())


def _starts(column) -> np.ndarray:
    """The first row of each chunk (chunks + 1,) int64, and the number of rows."""
    return np.cumsum([0] + [len(chunk) for chunk in column.chunks])


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Assets:
    """The images and texts of a catalogue, by id, with what is known of each. Pixels stay on disk until asked for."""

    texts: Sequence[str]
    image_sha256: Sequence[str]
    image_phash: Sequence[str]
    text_sha256: Sequence[str]
    image_names: Sequence[str]
    text_names: Sequence[str]
    image_probe: Sequence[bool]
    image_reveals: Sequence[tuple[str, ...]]
    text_reveals: Sequence[tuple[str, ...]]
    _images: object = None

    def pixels(self, ids: np.ndarray) -> list[np.ndarray]:
        """Decoded images, each uint8 (h, w, 3); raw ones are views of the memory map: do not write to them."""
        return [self._images.decode(int(i)) for i in ids]


class ImageTable:
    """Random access to the memory-mapped image column. What is read of a chunk is kept: views of the map, no copies."""

    def __init__(self, table):
        self._table = table
        self._chunks: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, object]] = {}

    @cached_property
    def _starts(self) -> np.ndarray:
        return _starts(self._table.column("data"))

    def decode(self, i: int) -> np.ndarray:
        """Pixels uint8 (h, w, 3) of image `i`; of a raw one a view of the memory map."""
        chunk = int(np.searchsorted(self._starts, i, side="right")) - 1
        if chunk not in self._chunks:
            self._chunks[chunk] = self._read(chunk)
        offsets, data, heights, widths, encodings = self._chunks[chunk]
        j = i - int(self._starts[chunk])
        raw = data[offsets[j] : offsets[j + 1]]
        if encodings[j].as_py() == "raw":
            return raw.reshape(heights[j], widths[j], 3)
        return decoded(raw.tobytes())

    def _read(self, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, object]:
        """Offsets, bytes, heights, widths and encodings of one chunk."""
        column, heights, widths, encodings = (
            self._table.column(name).chunk(chunk) for name in ("data", "height", "width", "encoding")
        )
        _, offsets, data = column.buffers()
        offsets = np.frombuffer(offsets, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
        data = np.frombuffer(data, dtype=np.uint8) if data else np.empty(0, np.uint8)
        return offsets, data, heights.to_numpy(), widths.to_numpy(), encodings
