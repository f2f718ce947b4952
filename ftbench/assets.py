"""The images and texts of a catalogue by id, read from memory-mapped tables. Must not know how they were written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ftbench.images import decoded


class Column(Sequence):
    """One column of a memory-mapped Arrow table as a sequence of Python values: nothing is read before it is asked for.

    Lists come as tuples, so that a value is the same whichever way it was asked for.
    """

    def __init__(self, column):
        self._column = column
        self._starts = np.cumsum([0] + [len(chunk) for chunk in column.chunks])

    def __len__(self) -> int:
        return int(self._starts[-1])

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
    image_probe: np.ndarray  # (images,) bool
    image_reveals: Sequence[tuple[str, ...]]
    text_reveals: Sequence[tuple[str, ...]]
    _images: object = None

    def pixels(self, ids: np.ndarray) -> list[np.ndarray]:
        """Decoded images, each uint8 (h, w, 3); raw ones are views of the memory map: do not write to them."""
        return [self._images.decode(int(i)) for i in ids]


class ImageTable:
    """Random access to the memory-mapped image column."""

    def __init__(self, table):
        column = table.column("data")
        self._encoding = Column(table.column("encoding"))
        self._size = np.stack([table.column("height").to_numpy(), table.column("width").to_numpy()], axis=1)
        self._starts = np.cumsum([0] + [len(chunk) for chunk in column.chunks])
        self._chunks = []
        for chunk in column.chunks:
            _, offsets, data = chunk.buffers()
            first = chunk.offset
            offsets = np.frombuffer(offsets, dtype=np.int64)[first : first + len(chunk) + 1]
            self._chunks.append((offsets, np.frombuffer(data, dtype=np.uint8) if data else np.empty(0, np.uint8)))

    def decode(self, i: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._starts, i, side="right")) - 1
        offsets, data = self._chunks[chunk]
        j = i - self._starts[chunk]
        raw = data[offsets[j] : offsets[j + 1]]
        if self._encoding[i] == "raw":
            return raw.reshape(*self._size[i], 3)
        return decoded(raw.tobytes())
