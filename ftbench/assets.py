"""The images and texts of a catalogue by id, read from memory-mapped tables. Must not know how they were written."""

from dataclasses import dataclass

import numpy as np

from ftbench.images import png_pixels


@dataclass(frozen=True)
class Assets:
    """The images and texts of a catalogue, by id, with what is known of each. Pixels stay on disk until asked for."""

    texts: tuple[str, ...]
    image_sha256: tuple[str, ...]
    image_phash: tuple[str, ...]
    text_sha256: tuple[str, ...]
    image_names: tuple[str, ...]
    text_names: tuple[str, ...]
    image_probe: np.ndarray  # (images,) bool
    image_reveals: tuple[tuple[str, ...], ...]
    text_reveals: tuple[tuple[str, ...], ...]
    _images: object = None

    def pixels(self, ids: np.ndarray) -> list[np.ndarray]:
        """Decoded images, each uint8 (h, w, 3); raw ones are views of the memory map: do not write to them."""
        return [self._images.decode(int(i)) for i in ids]


class ImageTable:
    """Random access to the memory-mapped image column."""

    def __init__(self, table):
        column = table.column("data")
        self._encoding = table.column("encoding").to_pylist()
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
        return png_pixels(raw.tobytes())
