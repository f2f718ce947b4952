"""Files that are written whole or not at all. Must not know what is in them."""

import os
from contextlib import suppress
from pathlib import Path

from ftbench.errors import DataError


def write_atomic(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file whole or not at all: temporary file in the same folder, fsync, rename.

    durable: whether to wait (about 10 ms) until the file outlives a power cut; what is quickly made again need not.
    Raises DataError, naming the folder, where it cannot be written; the temporary file does not stay.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as problem:
        raise DataError(
            f"cannot write {path.name} to {path.parent}: {problem.strerror or problem}. Choose another folder."
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
