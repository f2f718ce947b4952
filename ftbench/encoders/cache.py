"""Tower outputs on disk, keyed by everything they depend on. Must not know models."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ftbench.catalogue import cache_folder

NUMERICS = 3  # raised whenever a change may move numbers; part of every record's id and every cache key


def cached_features(key: tuple, compute: Callable[[], np.ndarray], cache: Path | None = None) -> np.ndarray:
    """The array (n, d) float32 for a key, computed once. A file whose hash does not fit its name's note is made again.

    key: encoder, its weights' hash, input size, tower (the view's kind), data, and each asset's hash, in order.
    """
    name = hashlib.sha256(repr((NUMERICS, "float32", *key)).encode()).hexdigest()[:32]
    folder = (cache or cache_folder()) / "embeddings"
    path, note = folder / f"{name}.npy", folder / f"{name}.sha256"
    if path.is_file() and note.is_file():
        if hashlib.sha256(path.read_bytes()).hexdigest() == note.read_text().strip():
            return np.load(path)
    array = np.ascontiguousarray(compute(), dtype=np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        os.replace(temporary, path)
        note.write_text(digest + "\n")
    finally:
        temporary.unlink(missing_ok=True)
    return array
