"""The package works from a wheel, from an editable install and from a bare checkout.

Everything is built from a copy of the checkout in a temporary folder. Imports are tried in a fresh interpreter without
`site`, so that a copy of ftbench that is installed here cannot stand in for the one under test.
"""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ftbench", "baselines", "tasks", "results")
FILES = ("pyproject.toml", "README.md", "LICENSE")
HEAVY = ("torch", "open_clip", "faiss", "datasets", "matplotlib", "pandas", "pyarrow", "timm", "transformers")

# argv[1]: folder to import from; argv[2]: this interpreter's own packages, without their .pth files
_HARNESS = """
import site, sys
sys.path.insert(0, sys.argv[1])
site.addsitedir(sys.argv[1])
sys.path.append(sys.argv[2])
"""

_IMPORTS = """
import importlib, importlib.resources as resources
import ftbench
print(ftbench.__version__, ftbench.__file__)
for name in ("baselines", "tasks", "results", "baselines.random", "errors", "sources", "encoders", "report"):
    print(name, importlib.import_module("ftbench." + name).__file__)
print((resources.files("ftbench.tasks") / "query2item.toml").is_file())
print((resources.files("ftbench.results") / "demo" / "query2item" / "random-0123.json").is_file())
"""


def _python(folder, code, cwd):
    run = [sys.executable, "-S", "-c", _HARNESS + code, str(folder), sysconfig.get_path("purelib")]
    done = subprocess.run(run, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what is packaged, with one record and one run file."""
    tree = tmp_path_factory.mktemp("checkout") / "ftbench-source"
    tree.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.parquet", "*.egg-info")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    record = tree / "results" / "demo" / "query2item" / "random-0123.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    record.with_suffix(".parquet").write_bytes(b"PAR1")
    return tree


def _need(*modules):
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed here, and without it no package can be built")


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    _need("pip", "setuptools")
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), str(checkout)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("ftbench-*.whl")
    return path


@pytest.fixture(scope="module")
def editable(checkout, tmp_path_factory):
    """A folder holding what `pip install -e` would put among the installed packages."""
    _need("setuptools")
    out = tmp_path_factory.mktemp("editable")
    code = "import sys, setuptools.build_meta as build; build.build_editable(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=checkout, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("ftbench-*.whl")
    zipfile.ZipFile(path).extractall(out / "site-packages")
    return out / "site-packages"


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def _inside(path):
    """Where a file of the checkout lies in the wheel."""
    parts = path.parts if path.parts[0] == "ftbench" else ("ftbench", *path.parts)
    return "/".join(parts)


def test_wheel_holds_every_module_task_record_and_data_file(checkout, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    kinds = {".py", ".toml", ".json", ".j2", ".safetensors", ".txt"}
    wanted = {
        _inside(path.relative_to(checkout))
        for folder in FOLDERS
        for path in (checkout / folder).rglob("*")
        if path.is_file() and path.suffix in kinds
    }
    assert not wanted - names
    assert "ftbench/results/demo/query2item/random-0123.json" in names


def test_every_kind_of_file_in_the_library_is_packaged(checkout, wheel):
    """A data file of a new kind needs a line in pyproject.toml, or it is missing for those who install."""
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {_inside(p.relative_to(checkout)) for p in (checkout / "ftbench").rglob("*") if p.is_file()}
    assert not files - names


def test_wheel_leaves_run_files_and_tests_out(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith(".parquet")]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ftbench"}


def test_wheel_names_its_command_licence_and_extras(wheel):
    archive = zipfile.ZipFile(wheel)

    def text(name):
        (path,) = (n for n in archive.namelist() if ".dist-info/" in n and n.endswith(name))
        return archive.read(path).decode()

    assert "ftbench = ftbench.cli:main" in text("entry_points.txt")
    assert "Apache License" in text("LICENSE")
    metadata = text("METADATA").splitlines()
    assert "License-Expression: Apache-2.0" in metadata
    assert {"Provides-Extra: lite", "Provides-Extra: dev"} <= set(metadata)
    assert "Requires-Python: >=3.11" in metadata


def test_import_from_the_wheel(unpacked, tmp_path):
    version, *found = _python(unpacked, _IMPORTS, tmp_path)
    assert version.split()[0] in unpacked.glob("*.dist-info").__next__().name
    assert all(str(unpacked) in line for line in found[:-2])
    assert f"baselines {unpacked / 'ftbench' / 'baselines' / '__init__.py'}" in found
    assert found[-2:] == ["True", "True"]


def test_import_from_a_bare_checkout(checkout, tmp_path):
    _, *found = _python(checkout, _IMPORTS, tmp_path)
    assert f"baselines {checkout / 'baselines' / '__init__.py'}" in found
    assert f"errors {checkout / 'ftbench' / 'errors.py'}" in found
    assert found[-2:] == ["True", "True"]


def test_import_from_an_editable_install_sees_edits(checkout, editable, tmp_path):
    _, *found = _python(editable, _IMPORTS, tmp_path)
    assert f"baselines {checkout / 'baselines' / '__init__.py'}" in found
    assert found[-2:] == ["True", "True"]
    added, changed = checkout / "baselines" / "added_here.py", checkout / "baselines" / "random.py"
    before = changed.read_bytes()
    try:
        added.write_text("SEEN = 1\n")
        changed.write_bytes(before + b"\nSEEN = 2\n")
        code = "import ftbench.baselines.added_here as a, ftbench.baselines.random as b; print(a.SEEN, b.SEEN)"
        assert _python(editable, code, tmp_path) == ["1 2"]
    finally:
        added.unlink()
        changed.write_bytes(before)


@pytest.mark.parametrize("kind", ["checkout", "unpacked", "editable"])
def test_the_command_starts_everywhere(kind, request, tmp_path):
    code = "import runpy; sys.argv = ['ftbench', '--help']; runpy.run_module('ftbench', run_name='__main__')"
    text = "\n".join(_python(request.getfixturevalue(kind), code, tmp_path))
    for command in ("run", "report", "list", "describe", "data"):
        assert command in text


def test_the_command_imports_nothing_heavy_before_it_is_needed(checkout, tmp_path):
    code = f"import ftbench.cli; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    assert _python(checkout, code, tmp_path) == [""]


def test_every_package_folder_is_listed():
    """A new folder of modules must be named in pyproject.toml, or the wheel lacks it."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "ftbench").rglob("*.py")}
    expected = {".".join(folder.parts) for folder in folders} | {f"ftbench.{name}" for name in FOLDERS[1:]}
    assert set(listed) == expected
