"""Streams of raw rows: CSV, JSON lines and Parquet files too large to hold, and clean cells. Must not know any source.

Every row that is read counts in a `Tally`; what cannot be read is dropped there with its reason. A file that cannot be
read at all is a DataError.
"""

import codecs
import csv
import gzip
import heapq
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ftbench.errors import DataError
from ftbench.items import Progress, unit_hash
from ftbench.sources.rows import Tally, strip_html

_LONGEST_TEXT = 100_000  # characters of one field that are read: ten times the longest description seen (ours)
_LONGEST_ID = 128  # characters; an ASIN has 10, the longest sku Magento allows 64
_FIELD_LIMIT = 16 * 1024 * 1024  # characters of a CSV cell, bytes of a JSON line; product rows have some 100 kB at most
_BATCH = 4096  # Parquet rows at a time: about 10 MB of product texts
_BUFFER = 1 << 20  # bytes of a column read at a time; else a whole row group of it, which may be the whole file
_POINTER = b"version https://git-lfs"  # how the file begins that Git puts in the place of a large one


def plain(value: object) -> str:
    """A cell's plain text that any encoding can write: "" for what is no string, no lone surrogates, no NUL.

    At most the first 100,000 characters are read.
    """
    if not isinstance(value, str):
        return ""
    text = value[:_LONGEST_TEXT].replace("\0", " ")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "ignore").decode()
    return strip_html(text)


def clean_id(value: object) -> str | None:
    """An identifier: a string without spaces and control characters, or a whole number; None for all else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 <= value < 1 << 64 else ""
    text = value.strip() if isinstance(value, str) else ""
    return text if 0 < len(text) <= _LONGEST_ID and text.isprintable() and " " not in text else None


def csv_rows(path: Path, columns: Sequence[str], tally: Tally) -> Iterator[dict[str, str]]:
    """Stream the named columns of a CSV file and nothing of the others; for files too large for `read_rows`.

    A row that is not UTF-8, has another number of cells than the header or a cell of more than 16 MiB characters is
    dropped and counted; so is every row in `tally.read`. Raises DataError for a missing column or an unreadable file.
    """
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(iter(lambda: file.readline(_FIELD_LIMIT), ""))
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in columns if name not in header]:
                raise DataError(f"{path.name}: no column {', '.join(missing)}; it has {', '.join(header)[:200]!r}.")
            places = {name: header.index(name) for name in columns}
            while True:
                try:
                    cells = next(reader, None)
                except csv.Error:
                    tally.read += 1
                    tally.drop("row that is not readable CSV")
                    continue
                if cells is None:
                    return
                if not any(cells):
                    continue
                tally.read += 1
                if len(cells) != len(header):
                    tally.drop("row with another number of cells than the header")
                elif any("\udc80" <= c <= "\udcff" for name in columns for c in cells[places[name]]):
                    tally.drop("row that is not UTF-8")
                else:
                    yield {name: cells[place] for name, place in places.items()}
    except csv.Error as problem:
        raise DataError(f"{path.name}: not a readable CSV file ({problem}).") from None
    except OSError as problem:
        raise DataError(f"{path.name}: cannot be opened ({problem.strerror}).") from None
    finally:
        csv.field_size_limit(limit)


def json_rows(lines: Iterable[bytes], tally: Tally) -> Iterator[dict]:
    """The objects of JSON lines; a line that is none is dropped and counted, so is every line in `tally.read`."""
    for line in lines:
        if not line.strip():
            continue
        tally.read += 1
        try:
            row = json.loads(line.removeprefix(codecs.BOM_UTF8).decode())
        except UnicodeDecodeError:
            tally.drop("line that is not UTF-8")
        except RecursionError:
            tally.drop("line nested too deeply")
        except ValueError:
            tally.drop("line that is not JSON")
        else:
            if isinstance(row, dict):
                yield row
            else:
                tally.drop("line that is not an object")


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, also of one that ends in .gz or .zst; a line of more than 16 MiB is cut there.

    Raises DataError for a file that cannot be opened or unpacked to its end.
    """
    try:
        with _unpacked(path) as file:
            while line := file.readline(_FIELD_LIMIT):
                rest = line
                while len(rest) == _FIELD_LIMIT and not rest.endswith(b"\n"):
                    rest = file.readline(_FIELD_LIMIT)
                yield line
    except (EOFError, OSError, zlib.error) as problem:
        raise DataError(f"{path.name}: cannot be read to its end ({problem}). Delete it and prepare again.") from None


def _unpacked(path: Path) -> "io.BufferedIOBase":
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"), buffer_size=1 << 20)
    return open(path, "rb")


def parquet_rows(path: Path, columns: Sequence[str], tally: Tally, batch: int = _BATCH) -> Iterator[dict]:
    """Stream the named columns of a Parquet file, `batch` rows at a time. Cells that have no Python value are None.

    Of a column of structs with a field `bytes` (the hub's images), only that field is read. Raises DataError for what
    is no Parquet file, a Git LFS pointer above all, and for missing columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:
            start = file.read(64)
        if start.startswith(_POINTER):
            raise DataError(
                f"{path.name}: a Git LFS pointer of {path.stat().st_size} bytes, not the file itself; a clone without "
                "Git LFS has such. Delete it and prepare again, or fetch the file: git lfs pull"
            )
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as table:
            known = table.schema_arrow.names
            if missing := [name for name in columns if name not in known]:
                raise DataError(f"{path.name}: no column {', '.join(missing)}; it has {', '.join(known)[:200]}.")
            for part in table.iter_batches(batch_size=batch, columns=list(columns)):
                cells = [_values(part.column(name)) for name in columns]
                for values in zip(*cells, strict=True):
                    tally.read += 1
                    yield dict(zip(columns, values, strict=True))
    except (OSError, pa.ArrowException) as problem:
        raise DataError(
            f"{path.name}: not a readable Parquet file ({str(problem)[:200]}). Delete it and prepare again."
        ) from None


def _values(column: "object") -> list:
    """The Python values of an Arrow column; strings that are not UTF-8 get lone surrogates, other oddities None."""
    import pyarrow as pa

    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = column.field("bytes")
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            raw = column.view("binary" if pa.types.is_string(column.type) else "large_binary").to_pylist()
            return [None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in raw]
        return [_value(cell) for cell in column]
    except (ValueError, OverflowError, TypeError, pa.ArrowException):
        return [_value(cell) for cell in column]


def _value(cell: "object") -> object:
    try:
        return cell.as_py()
    except Exception:  # whatever Arrow cannot turn into a Python value is no value of ours
        return None


def reported(rows: Iterable[dict], progress: Progress) -> Iterator[dict]:
    """The same rows; tells every thousandth one."""
    for number, row in enumerate(rows, start=1):
        if number % 1000 == 0:
            progress(number, None, "reading rows")
        yield row


def smallest(item_ids: Iterable[str], tier: int | None) -> frozenset[str]:
    """The items of a tier: the first `tier` by ascending hash, so that tiers nest; all of them for None."""
    if tier is None:
        return frozenset(item_ids)
    return frozenset(i for _, i in heapq.nsmallest(tier, ((unit_hash("tier", i), i) for i in item_ids)))


def leave_out(tally: Tally, count: int, reason: str) -> None:
    """Rows counted as kept are left out after all."""
    if count:
        tally.kept -= count
        tally.dropped += count
        tally.reasons[reason] += count
