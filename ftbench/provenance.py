"""Where numbers came from: source files, machine, packages, commit. Must not know tasks, methods or records."""

import ast
import ctypes
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ftbench import __version__
from ftbench.errors import FtbenchError

PACKAGES = (
    "torch", "open_clip_torch", "timm", "transformers", "datasets", "faiss-cpu", "numpy", "pandas",
    "pyarrow", "pillow", "bm25s",
)  # fmt: skip
_GENERATED = ("results", "site")  # what runs and reports write: a new record there does not make the code dirty


def source_sha256(path: Path, tuned: bool = True) -> str:
    """SHA-256 of what a Python file does: its syntax tree without docstrings, comments, layout and line numbers.

    tuned: whether `tuned = …` of its classes counts; a search is recognised without it, as its outcome is put there.

    Empty fields are left out, so that Python versions which add fields to their nodes agree. Raises FtbenchError
    where the file cannot be read or is not Python.
    """
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError) as problem:
        raise FtbenchError(f"cannot read the method file {path}: {problem}. Expected a Python file.") from None
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        if not tuned and isinstance(node, ast.ClassDef):
            node.body = [part for part in node.body if "tuned" not in _assigned(part)]
    return hashlib.sha256(_plain(tree).encode()).hexdigest()


def _assigned(node: ast.stmt) -> list[str]:
    """The plain names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _plain(value: object) -> str:
    """A syntax tree as text, with empty fields left out except the value of a constant."""
    if isinstance(value, list):
        return "[" + ",".join(map(_plain, value)) + "]"
    if not isinstance(value, ast.AST):
        return repr(value)
    keep_all = isinstance(value, ast.Constant)
    parts = []
    for name in value._fields:
        child = getattr(value, name, None)
        if (keep_all and name == "value") or (child is not None and child != []):
            parts.append(f"{name}={_plain(child)}")
    return f"{type(value).__name__}({','.join(parts)})"


def method_title(path: Path) -> str:
    """What a method file calls itself: the beginning of its docstring, or the file's name."""
    try:
        found = short_title(ast.get_docstring(ast.parse(Path(path).read_bytes())) or "")
    except (SyntaxError, ValueError):
        found = ""
    return found or Path(path).stem[:120]


def short_title(docstring: str) -> str:
    """The beginning of a docstring, up to a colon, bracket, comma, full stop or line end; at most 120 characters."""
    return re.split(r":\s|\s\(|,\s|\.\s|\.$|\n", docstring, maxsplit=1)[0].strip()[:120]


def restart_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system can (Linux): one process may make many runs.

    What earlier runs freed is given back to the system first; what they keep (catalogues, encoders) still counts.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """The most memory this process has held since `restart_peak_memory`, in bytes; None where the system does not tell.

    Where counting cannot be restarted it is the most since the process began.
    """
    with suppress(OSError):
        held = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if held:
            return int(held[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def environment(threads: int | None = None, device: str = "cpu") -> dict:
    """A record's `environment`: python, platform, cpu, cores, threads, gpu, packages, fingerprint.

    cores: those this process may use. threads: the number all libraries were pinned to, else what torch, FAISS and
    numpy's BLAS say, null where not loaded. device: the gpu is recorded only where the run used it.
    fingerprint: 12 hexadecimal digits of the hardware alone (machine, cpu, cores, gpu).
    """
    gpu = None if device == "cpu" else _gpu()
    hardware = {"machine": platform.machine(), "cpu": _cpu(), "cores": _cores(), "gpu": gpu}
    text = "|".join(str(value) for value in hardware.values())
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu": hardware["cpu"],
        "cores": hardware["cores"],
        "threads": _threads() if threads is None else dict.fromkeys(("torch", "faiss", "blas"), threads),
        "gpu": hardware["gpu"],
        "packages": _packages(),
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:12],
    }


def git_state(folder: Path | None = None) -> dict:
    """{commit, dirty} of the checkout that `folder` (of this package by default) is the root of; nulls where none is.

    dirty: whether anything but results/ and site/ differs from the commit, untracked files included.
    """
    root = (folder or Path(__file__).parent.parent).resolve()
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if not top or not commit or Path(top).resolve() != root:
        return {"commit": None, "dirty": None}
    status = _git(root, "status", "--porcelain", "--", ".", *(f":(exclude){name}" for name in _GENERATED))
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def committed(folder: Path) -> frozenset[str] | None:
    """The files below a folder that the last commit of its checkout has, as paths from it; None outside of a checkout,
    and where git cannot tell."""
    listed = _git(Path(folder), "ls-tree", "-r", "-z", "--name-only", "HEAD", ".")
    return None if listed is None else frozenset(filter(None, listed.split("\0")))


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _cpu() -> str | None:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or None


def _cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count()


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "Apple GPU" if torch.backends.mps.is_available() else None


def _threads() -> dict:
    torch, faiss = sys.modules.get("torch"), sys.modules.get("faiss")
    return {
        "torch": torch.get_num_threads() if torch else None,
        "faiss": faiss.omp_get_max_threads() if faiss else None,
        "blas": _blas_threads(),
    }


def _blas_threads() -> int | None:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        value = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
        return int(value) if value.isdigit() else None
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return max(pools, default=None)


def _packages() -> dict:
    """Versions of the packages that numbers depend on; those not installed are left out."""
    found = {"ftbench": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
