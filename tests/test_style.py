"""House rules that a reader cannot be asked to check by eye: layers, sizes, names, assertions."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "ftbench").rglob("*.py"))
BASELINES = sorted((ROOT / "baselines").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# A module imports only from modules before it; a package counts as one. A new module takes its place here.
LAYERS = (
    "errors files vectors items images sources assets catalogue store leaks views encoders transport losses "
    "matching latent labels performance settings batches trainer embedder method weak search task metrics stats "
    "provenance runfile bundle scores schema record lookup compare untrusted checks rescore inspection validation "
    "release citation request plan outputs runner pool cells suite reproduce submission tune studies "
    "inventory pretrain report export datasheet console cli_board cli_make cli_study cli __main__"
).split()
HIGHEST_FOR_BASELINES = "weak"
LIBRARY_LINES, BASELINE_LINES = 400, 250


def _name(path):
    return path.relative_to(ROOT).as_posix()


@cache
def _tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(tree):
    """(line, dotted name) of everything imported anywhere in a file; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            yield from ((node.lineno, f"{dots}{node.module or ''}.{alias.name}") for alias in node.names)


def _layer(path):
    return path.relative_to(ROOT / "ftbench").parts[0].removesuffix(".py")


def _wrong_layers(tree, name, own, allowed):
    """What a file of layer `own` imports from ftbench beyond `allowed` layers."""
    for line, imported in _imports(tree):
        if imported.startswith("."):
            yield f"{name}:{line}: relative import; write it out from ftbench"
        parts = imported.split(".")
        if parts[0] == "ftbench" and len(parts) > 1 and parts[1] in LAYERS and parts[1] not in (own, *allowed):
            yield f"{name}:{line}: {own} must not import {parts[1]}, which comes after it"


def test_every_module_has_a_layer():
    unknown = {_layer(path) for path in LIBRARY} - {"__init__", *LAYERS}
    assert not unknown, f"give these modules a place in LAYERS: {sorted(unknown)}"


def test_imports_go_one_way():
    wrong = []
    for path in LIBRARY:
        own = _layer(path)
        if own in LAYERS:
            wrong += _wrong_layers(_tree(path), _name(path), own, LAYERS[: LAYERS.index(own)])
    assert not wrong, "\n".join(wrong)


def test_baselines_know_the_library_up_to_method_and_not_each_other():
    allowed = LAYERS[: LAYERS.index(HIGHEST_FOR_BASELINES) + 1]
    wrong = []
    for path in BASELINES:
        wrong += _wrong_layers(_tree(path), _name(path), path.stem, allowed)
        others = {f"ftbench.baselines.{other.stem}" for other in BASELINES} | {"ftbench.baselines"}
        for line, imported in _imports(_tree(path)):
            if imported in others or any(imported.startswith(other + ".") for other in others):
                wrong.append(f"{_name(path)}:{line}: a method imports no other method; shared code goes into ftbench/")
    assert not wrong, "\n".join(wrong)


def test_folders_beside_the_library_are_only_imported_through_it():
    outside = ("baselines", "tasks", "results", "site")
    wrong = []
    for path in LIBRARY + BASELINES + TESTS:
        for line, imported in _imports(_tree(path)):
            if imported.split(".")[0] in outside[:3] or imported.startswith("site."):
                wrong.append(f"{_name(path)}:{line}: import ftbench.{imported}, or there are two modules of it")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from ftbench.trainer import Trainer", 1),
        ("def f():\n    from ftbench import runner", 1),
        ("import ftbench.cli", 1),
        ("from . import items", 1),
        ("from ftbench.errors import FtbenchError\nfrom ftbench import __version__\nimport torch", 0),
        ("from ftbench.views import Views", 0),
    ],
)
def test_the_layer_check_finds_what_it_looks_for(source, count):
    found = list(_wrong_layers(ast.parse(source), "x", "views", LAYERS[: LAYERS.index("views")]))
    assert len(found) == count


def test_files_stay_readable():
    limits = [(p, BASELINE_LINES) for p in BASELINES] + [(p, LIBRARY_LINES) for p in LIBRARY + TESTS]
    long = []
    for path, limit in limits:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            long.append(f"{_name(path)}: {lines} lines, at most {limit}")
    assert not long, "\n".join(long)


def test_every_module_says_what_it_is_for():
    silent = [
        _name(path)
        for path in LIBRARY + BASELINES
        if path.read_text(encoding="utf-8").strip() and not ast.get_docstring(_tree(path))
    ]
    assert not silent, f"no docstring: {silent}"


def test_every_method_states_its_paper_and_where_it_departs():
    missing = []
    for path in BASELINES:
        text = ast.get_docstring(_tree(path)) or ""
        if path.stem != "__init__" and "differs from the paper" not in text.lower():
            missing.append(f'{_name(path)}: its docstring has no line "Differs from the paper:"')
    assert not missing, "\n".join(missing)


def test_names_that_would_hide_the_folders_are_not_taken():
    """ftbench.tasks is the folder tasks/; a module of that name would shadow it. `site` is the standard library's."""
    for name in ("baselines", "tasks", "results"):
        assert not (ROOT / "ftbench" / f"{name}.py").exists()
        assert not (ROOT / "ftbench" / name).exists()
        assert (ROOT / name / "__init__.py").is_file()
    assert not list((ROOT / "site").rglob("*.py"))


def _silent_checks(tree):
    """Calls in a test that look like a check and fail badly or not at all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "allclose":
                yield node.lineno, "use np.testing.assert_allclose or torch.testing.assert_close"
            if re.fullmatch(r"assert[A-Z]\w*", node.func.attr):
                yield node.lineno, "use assert"
        if isinstance(node, ast.Expr):
            if isinstance(node.value, ast.Compare):
                yield node.lineno, "a comparison without assert checks nothing"
            if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
                if node.value.func.attr in ("isclose", "array_equal", "equal", "array_equiv"):
                    yield node.lineno, "the answer is thrown away: write assert, or np.testing.assert_array_equal"


def test_tests_check_with_assert_or_the_testing_functions():
    wrong = [f"{_name(path)}:{line}: {what}" for path in TESTS for line, what in _silent_checks(_tree(path))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("np.allclose(a, b)", 1),
        ("assert torch.allclose(a, b)", 1),
        ("a == b", 1),
        ("self.assertEqual(a, b)", 1),
        ("np.array_equal(a, b)", 1),
        ("assert np.array_equal(a, b)", 0),
        ("np.testing.assert_allclose(a, b)\nassert a == b", 0),
    ],
)
def test_the_assertion_check_finds_what_it_looks_for(source, count):
    assert len(list(_silent_checks(ast.parse(source)))) == count


_SEEDING = ("np.random.seed", "torch.manual_seed", "random.seed", "torch.cuda.manual_seed_all")


def _seeded(node, forked=False):
    """Calls that seed a global generator, except where torch.random.fork_rng puts its state back afterwards."""
    forked = forked or (isinstance(node, ast.With) and "fork_rng" in "".join(map(ast.unparse, node.items)))
    if isinstance(node, ast.Call) and ast.unparse(node.func) in _SEEDING and not forked:
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _seeded(child, forked)


def test_no_global_seeding_in_the_library():
    wrong = [
        f"{_name(path)}:{node.lineno}: {ast.unparse(node.func)}: pass a generator instead"
        for path in LIBRARY + BASELINES
        for node in _seeded(_tree(path))
    ]
    assert not wrong, "\n".join(wrong)
    assert (
        len(list(_seeded(ast.parse("torch.manual_seed(0)\nwith torch.random.fork_rng():\n    torch.manual_seed(1)"))))
        == 1
    )


def _declared(*extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + [line for e in extras for line in project["optional-dependencies"][e]]
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.parametrize(
    ("paths", "extras"), [(LIBRARY + BASELINES, ("lite",)), (TESTS, ("lite", "dev"))], ids=["library", "tests"]
)
def test_what_is_imported_is_declared(paths, extras):
    providers = packages_distributions()
    # POT is a reference: the function that needs it says what to install
    declared = _declared(*extras) | {"pot"}
    wrong = []
    for path in paths:
        siblings = {p.stem for folder in (path.parent, ROOT / "tests") for p in folder.iterdir()}
        for line, imported in _imports(_tree(path)):
            top = imported.split(".")[0]
            if not top or top == "ftbench" or top in sys.stdlib_module_names or (path in TESTS and top in siblings):
                continue
            if not declared & {canonicalize_name(name) for name in providers.get(top, [])}:
                wrong.append(f"{_name(path)}:{line}: {top} is not among the dependencies of pyproject.toml")
    assert not wrong, "\n".join(wrong)


def test_every_dependency_is_pinned_by_the_constraints():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert not [line for line in pins if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", line)]
    missing = _declared("lite", "dev") - {line.split("==")[0] for line in pins}
    assert not missing


def test_nothing_committed_depends_on_this_machine():
    """No absolute home or working folder, and no package index, in any committed text file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(rb"(?<![\w.~])/(?:work|root|home/\w+|Users/\w+)/\w|(?:index-url|find-links)")
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in (".parquet", ".safetensors", ".png", ".gz") or not path.is_file() or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if pattern.search(line):
                wrong.append(f"{name}:{number}: {line[:80]!r}")
    assert not wrong, "\n".join(wrong)
