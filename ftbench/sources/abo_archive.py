"""The two tar archives of Amazon Berkeley Objects: listings read as lines, photographs indexed and taken out.

Must not know what a listing says. Nothing but `take_out` writes, and only below the folder it is given.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ftbench.errors import DataError, several
from ftbench.items import Progress
from ftbench.sources.rows import Tally, image_key, inside, safe_path

SHARDS = tuple(f"listings_{digit}.json.gz" for digit in "0123456789abcdef")
_LONGEST_LINE = 16 * 1024 * 1024  # bytes; listings have some 100 kB at most
_LARGEST_FILE = 16 * 1024 * 1024  # bytes of an archived photograph; 256-pixel ones have some 10 kB
_SMALL = "images/small/"  # where the archive keeps what images.csv calls `path`
_TORN = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, zlib.error)


@dataclass(frozen=True, slots=True)
class Member:
    """Where a photograph lies in the archive, in bytes, and the key of its content."""

    offset: int
    size: int
    key: int


def listing_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of the 16 shards in the listings' archive, in the order of the shards' names.

    Raises DataError, after all that can be read, naming every shard that is missing or damaged.
    """
    problems, places = [], {}
    try:
        for member in filter(tarfile.TarInfo.isreg, members(file, name)):
            places.setdefault(member.name.rpartition("/")[2], (member.offset_data, member.size))
    except DataError as problem:
        problems.append(str(problem))
    for shard in SHARDS:
        if shard not in places:
            problems.append(f"{shard} is missing")
            continue
        try:
            with gzip.open(_Part(file, *places[shard])) as lines:
                while line := lines.readline(_LONGEST_LINE):
                    rest = line
                    while len(rest) == _LONGEST_LINE and not rest.endswith(b"\n"):
                        rest = lines.readline(_LONGEST_LINE)
                    yield line
        except _TORN as problem:
            problems.append(f"{shard} cannot be read to its end ({problem})")
    if problems:
        problems.append("delete it and prepare again")
        raise several(f"{name} is not whole", problems, DataError)


class _Part:
    """A stretch of a file as a file of its own, as far as gzip needs one."""

    def __init__(self, file: BinaryIO, start: int, size: int):
        self._file, self._place, self._end = file, start, start + size

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._place
        self._file.seek(self._place)
        data = self._file.read(left if size < 0 else min(size, left))
        self._place += len(data)
        return data


def members(file: BinaryIO, name: str) -> Iterator[tarfile.TarInfo]:
    """The members of a tar archive, one at a time in memory. Raises DataError for one that is damaged or cut short."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while member := archive.next():
                yield member
                archive.members.clear()  # 398,212 of them would take half a gigabyte
            file.seek(archive.offset)
            # Python's reader takes a damaged header for the end; the true end is two blocks of zeros
            if file.read(2 * tarfile.BLOCKSIZE).strip(b"\0") or file.tell() < archive.offset + 2 * tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"no end mark at byte {archive.offset:,}")
    except _TORN as problem:
        raise DataError(f"{name}: not a whole tar archive ({problem}). Delete it and prepare again.") from None


def index_archive(file: BinaryIO, name: str, tally: Tally, progress: Progress) -> dict[str, Member]:
    """Path below the folder of small images -> where it lies. Only plain files inside the archive's folder count.

    Nothing is written: names that leave the folder, links and devices are dropped and counted. Raises DataError.
    """
    found: dict[str, Member] = {}
    for number, member in enumerate(members(file, name)):
        if member.isdir():
            continue
        tally.read += 1
        path = safe_path(member.name)
        if path is None or member.name.startswith("/"):
            tally.drop("archive member whose name leaves the folder")
        elif not member.isreg() or member.issparse():
            tally.drop("archive member that is a link or no plain file")
        elif not path.startswith(_SMALL) or member.size > _LARGEST_FILE:
            tally.drop("archive member that is no small image")
        else:
            file.seek(member.offset_data)
            data = file.read(member.size)
            if path.removeprefix(_SMALL) in found:
                tally.merged += 1  # as tar does it: the last of one name counts
            else:
                tally.kept += 1
            key = image_key(hashlib.sha256(data).hexdigest())
            found[path.removeprefix(_SMALL)] = Member(member.offset_data, member.size, key)
        if number % 1000 == 0:
            progress(number, None, "reading the archive")
    return found


def take_out(archive: BinaryIO, member: Member, folder: Path, path: str) -> Path:
    """The photograph as a file below `folder`, written unless it is there with the same bytes.

    Raises DataError where a link leads the file out of the folder, or where it cannot be written.
    """
    archive.seek(member.offset)
    data, target = archive.read(member.size), folder / path
    try:
        if not inside(folder, path):
            raise DataError(f"{target} is led out of {folder} by a link. Remove that link and prepare again.")
        if not target.is_file() or target.stat().st_size != len(data) or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            part.write_bytes(data)  # no fsync: what a crash leaves behind is compared with the archive next time
            os.replace(part, target)
    except OSError as problem:
        raise DataError(f"cannot write {target}: {problem.strerror}.") from None
    return target
