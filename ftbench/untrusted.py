"""Reading what strangers send: folders, JSON and Parquet whose every size is bounded before it is believed.

Must not know records. Nothing here imports, unpickles or runs what it reads. What is decoded (Parquet, Python's syntax)
is decoded in a process of its own with bounded memory and time, because a footer may lie about what follows it.
"""

import io
import json
import math
import os
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ftbench.errors import DataError


@dataclass(frozen=True)
class Limits:
    """What a submission may weigh, about ten times the largest of the committed board. Sizes in bytes."""

    files: int = 1_000
    folder: int = 64_000_000  # all of results/ is to stay below 60 MB
    record: int = 256_000
    run_file: int = 32_000_000
    text: int = 100_000  # the method file and the README
    depth: int = 16  # of nested JSON; a record has 5
    rows: int = 64  # of a run file: one per pair of the task
    values: int = 20_000_000  # of one column of a run file, in all
    decoded: int = 512_000_000  # a run file, decompressed
    memory: int = 2_000_000_000  # of the process that decodes, beyond what it needs for itself
    seconds: int = 300  # for one run file


LIMITS = Limits()
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def plain(text: object, most: int = 300) -> str:
    """A stranger's text fit for a terminal and a log: one line, nothing that is not printable, of bounded length."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


# --- folders


def walk(folder: Path, limits: Limits = LIMITS) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """({path below the folder: size}, [(path, problem)]) of a folder, links never followed. Raises DataError for a
    folder that is none."""
    if not stat.S_ISDIR(_mode(folder)):
        archive = str(folder).lower().endswith(ARCHIVES)
        raise DataError(
            f"{folder} is {'an archive; archives are not accepted' if archive else 'no folder'}. "
            "Name the folder that `ftbench submit` wrote."
        )
    found, problems, waiting = {}, [], [(folder, "")]
    while waiting:
        here, prefix = waiting.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                name, status = prefix + entry.name, entry.stat(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    problems.append((name, "a link; a submission has plain files only"))
                elif stat.S_ISDIR(status.st_mode):
                    if name.count("/") >= limits.depth:
                        problems.append((name, "folders are nested too deeply"))
                    else:
                        waiting.append((here / entry.name, name + "/"))
                elif not stat.S_ISREG(status.st_mode):
                    problems.append((name, "no plain file (a pipe, socket or device)"))
                elif name.lower().endswith(ARCHIVES):
                    problems.append((name, "an archive; archives are not accepted"))
                else:
                    found[name] = status.st_size
                if len(found) + len(problems) > limits.files:
                    return {}, [("", f"more than {limits.files:,} files")]
    if sum(found.values()) > limits.folder:
        problems.append(("", f"{sum(found.values()):,} bytes in all; at most {limits.folder:,}"))
    return dict(sorted(found.items())), sorted(problems)


def _mode(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def read_bytes(path: Path, most: int) -> bytes:
    """A plain file's bytes. Raises DataError for a link, anything but a file, and more than `most` bytes."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DataError("no plain file")
            data = file.read(most + 1)
    except OSError as problem:
        raise DataError(f"cannot be read: {problem.strerror}") from None
    if len(data) > most:
        raise DataError(f"more than {most:,} bytes")
    return data


# --- JSON


def parse_json(data: bytes, deepest: int) -> object:
    """JSON that means one thing to every reader. Raises DataError for what is not UTF-8 or not JSON, for keys given
    twice, numbers that are not finite or beyond 18 digits, nesting deeper than `deepest`, and texts with control or
    invisible direction characters or halves of characters."""
    try:
        text = data.decode("utf-8")
        if _nesting(text) > deepest:
            raise DataError(f"nested deeper than {deepest}")
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite,
                           parse_constant=_finite)  # fmt: skip
    except (ValueError, RecursionError) as problem:
        raise DataError(f"not JSON: {plain(problem)}") from None
    _check_texts(value)
    return value


def _nesting(text: str) -> int:
    """The deepest nesting of brackets outside of strings; counted before a parser recurses over it."""
    depth = deepest = 0
    inside = skip = False
    for character in text:
        if skip:
            skip = False
        elif inside:
            skip, inside = character == "\\", character != '"'
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(depth, deepest)
        elif character in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise DataError("a key is given twice in one object")
    return dict(pairs)


def _integer(digits: str) -> int:
    if len(digits) > 18:
        raise DataError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise DataError(f"{plain(digits, 30)} is not a finite number")
    return float(digits)


def _check_texts(value: object) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_texts(key)
            _check_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner)
    elif isinstance(value, str):
        # Cc control, Cf format (among them those that reverse the order of what is read), Cs halves of characters
        bad = next((c for c in value if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn")), None)
        if bad is not None:
            raise DataError(f"a text holds the character U+{ord(bad):04X}, which cannot be seen")


# --- Parquet


def parquet_problems(data: bytes, columns: Collection[str], limits: Limits = LIMITS) -> list[str]:
    """Why a Parquet file is not to be decoded, from its footer alone: columns, rows, values, decompressed size."""
    import pyarrow.parquet as pq

    if len(data) < 12 or data[:4] != b"PAR1" or data[-4:] != b"PAR1":
        return ["not a Parquet file"]
    if int.from_bytes(data[-8:-4], "little") > min(len(data), 1_000_000):
        return ["its footer is larger than the file, or than 1,000,000 bytes"]
    try:
        about = pq.read_metadata(io.BytesIO(data))
        names = about.schema.to_arrow_schema().names
    except Exception as problem:  # whatever a hostile footer raises
        return [f"its footer cannot be read: {plain(problem)}"]
    found = []
    if sorted(names) != sorted(columns):
        found.append(f"its columns are not those of a run file: {plain(', '.join(names))}")
    if max(about.num_rows, about.num_row_groups) > limits.rows:
        found.append(f"{max(about.num_rows, about.num_row_groups):,} rows; at most {limits.rows}, one per pair")
        return found
    chunks = [about.row_group(g).column(c) for g in range(about.num_row_groups) for c in range(about.num_columns)]
    size = sum(max(chunk.total_uncompressed_size, 0) for chunk in chunks)
    if size > limits.decoded or any(chunk.total_uncompressed_size < 0 or chunk.num_values < 0 for chunk in chunks):
        found.append(f"{size:,} bytes when decompressed; at most {limits.decoded:,}")
    values: dict[str, int] = {}
    for chunk in chunks:
        values[chunk.path_in_schema] = values.get(chunk.path_in_schema, 0) + chunk.num_values
    if max(values.values(), default=0) > limits.values:
        found.append(f"{max(values.values()):,} values in a column; at most {limits.values:,}")
    return found


# --- a process with bounds

_CHILD = "from ftbench.untrusted import _serve; _serve()"


def bounded(function: str, payload: object, limits: Limits = LIMITS) -> object:
    """What "module:function" of ftbench gives for a payload, called in another process with bounded memory and time.

    payload and answer are JSON. Raises DataError where the process ran out of either, or crashed.
    """
    job = {"function": function, "payload": payload, "memory": limits.memory, "seconds": limits.seconds}
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # -P: nothing is imported from the folder that the command is typed in
            [sys.executable, "-P", "-c", _CHILD], input=json.dumps(job).encode(), capture_output=True,
            timeout=limits.seconds, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(f"reading it takes more than {limits.seconds} seconds") from None
    try:
        return json.loads(done.stdout)["answer"]
    except (ValueError, KeyError, TypeError):
        told = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DataError(
            f"reading it takes more than {limits.memory:,} bytes of memory, or crashes the reader: {plain(told)}"
        ) from None


def _serve() -> None:
    """The other process: one job from standard input, one answer to standard output."""
    job = json.load(sys.stdin)
    module, _, name = job["function"].partition(":")
    if not module.startswith("ftbench."):
        raise SystemExit(f"{module} is not part of ftbench")
    function = getattr(import_module(module), name)
    with suppress(ImportError, OSError, ValueError):  # Windows has none of these, macOS not all
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (job["seconds"], job["seconds"]))
        resource.setrlimit(resource.RLIMIT_AS, (used + job["memory"],) * 2)
    print(json.dumps({"answer": function(job["payload"])}))
