"""Studies: cells made one by one under a cap, kept, found again; findings and figures that the page accepts."""

import doctest
import json
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from ftbench import cli, cli_study, console, errors, stats
from ftbench.cells import Cell, Done
from ftbench.errors import FtbenchError
from ftbench.report import studies as shown
from ftbench.request import Request
from ftbench.studies import base, load_study, studies, words, work
from ftbench.studies.base import Figure, Outcome, Study, Timed

LEXICAL = Request("bm25", "query2item")


def timed(value, seconds=0.0, fail=False):
    """What the toy study measures; called in a process of its own."""
    import torch

    if fail:
        raise ValueError("no such luck")
    time.sleep(seconds)
    return {
        "value": value,
        "process": os.getpid(),
        "threads": torch.get_num_threads(),
        "others": threading.active_count(),
    }


class Toy(Study):
    name, title, question, hours = "toy", "Toy", "What is two and two?", 1.0
    function = "test_study:timed"

    def __init__(self, *wanted, more=()):
        self.wanted, self.more = wanted, more

    def cells(self, full):
        return [*self.wanted, *(self.more if full else ())]

    def outcome(self, done):
        def draw(canvas):
            axes = canvas.subplots()
            axes.plot([1, 2], [0, len(done)], label="a")
            axes.fill_between([1, 2], 0, 1, hatch="/")  # what gets an id of its own

        return Outcome((f"{sorted(done)}",), (Figure("lines", "Lines.", draw),))


def value(key, **arguments):
    return Timed(key, Toy.function, {"value": 1} | arguments)


@pytest.fixture
def options(tmp_path, session_cache):
    return work.Options(tmp_path / "results", data="studio@200", jobs=1)


def _cell(options, key):
    return options.results / "studies/toy/cells" / f"{key}.json"


def test_a_study_is_made_kept_and_shown(options):
    toy, told = Toy(Cell("run", LEXICAL), value("one")), []
    path = work.make(toy, options, told.append)
    (found,) = shown.studies(options.results)
    assert path == options.results / "studies/toy.json"
    assert (found.name, found.command) == ("toy", "ftbench study toy --data studio@200")
    assert found.findings[0] == "['one', 'run']" and "2 cells made at commit" in found.findings[-1]
    assert [figure.png.name for figure in found.figures] == ["lines.png"]
    kept = json.loads(_cell(options, "one").read_text())
    assert kept["values"]["process"] != os.getpid() and kept["values"]["threads"] == 1
    assert json.loads(_cell(options, "run").read_text())["record"]["data"]["name"] == "studio@200"
    before = {p: p.stat().st_mtime_ns for p in (options.results / "studies/toy/cells").iterdir()}
    picture = found.figures[0].path.read_bytes()
    work.make(toy, options, told.append)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert found.figures[0].path.read_bytes() == picture
    assert work.redraw(toy, options) == path
    states = {key: state for key, _, state in work.listing(Toy(*toy.wanted, value("two")), options)}
    assert states["run"].startswith("done") and states["one"].startswith("done") and states["two"] == ""


def test_a_cell_is_made_again_where_it_changed_or_by_force(options):
    first = work.make(Toy(value("one")), options) and _cell(options, "one").read_text()
    work.make(Toy(value("one", value=2)), options)
    second = _cell(options, "one").read_text()
    assert json.loads(second)["values"]["value"] == 2 and first != second
    work.make(Toy(value("one", value=2)), replace(options, force=True))
    assert json.loads(_cell(options, "one").read_text())["values"]["process"] != json.loads(second)["values"]["process"]


def test_a_cell_of_other_settings_is_not_drawn_beside_new_ones(options):
    work.make(Toy(value("one"), value("two")), options)
    toy = Toy(value("one", value=2), value("two", value=2))
    toy.hours = 1e-9
    with pytest.raises(FtbenchError, match="2 of 2 cells left: one, two"):
        work.make(toy, options)


def test_drawing_again_says_what_changed_since(options):
    work.make(Toy(value("one"), value("two")), options)
    said = work.redraw(Toy(value("one"), value("two", value=2)), options).read_text()
    assert "The code that made 1 of these has changed since: ftbench study toy would make them again." in said
    assert "changed since" not in work.redraw(Toy(value("one"), value("two")), options).read_text()
    states = [state for *_, state in work.listing(Toy(value("one", value=3), value("two"), value("six")), options)]
    assert states[0] == "earlier code" and states[1].startswith("done, ") and not states[2]


def test_the_cap_stops_before_a_cell_and_counts_what_was_found(options, monkeypatch):
    toy = Toy(value("one", seconds=0.1), value("two"), value("three"))
    toy.hours = 0.1 / 3600
    with pytest.raises(FtbenchError, match="2 of 3 cells left: two, three") as problem:
        work.make(toy, options)
    assert "ftbench study toy --full" in str(problem.value)
    assert not (options.results / "studies/toy.json").exists()
    with pytest.raises(FtbenchError, match="2 of 3 cells left"):  # those found have spent the cap
        work.make(toy, options)
    with pytest.raises(FtbenchError, match="To make them: ftbench study toy$"):
        work.redraw(toy, options)
    assert work.make(toy, replace(options, full=True)).exists()
    assert work.redraw(toy, options).exists()


def test_runs_stop_at_the_cap_too(options):
    toy = Toy(Cell("one", LEXICAL), Cell("two", LEXICAL))
    toy.hours = 1e-9
    with pytest.raises(FtbenchError, match="2 of 2 cells left"):
        work.make(toy, options)


def test_cells_beyond_the_cap_come_with_full_alone(options):
    toy = Toy(value("one"), more=[value("two")])
    work.make(toy, options)
    assert not _cell(options, "two").exists()
    work.make(toy, replace(options, full=True))
    page = json.loads((options.results / "studies/toy.json").read_text())
    assert page["findings"][0] == "['one', 'two']" and page["command"].endswith("--full")


def test_what_failed_is_named_left_out_and_tried_again(options, tmp_path):
    toy = Toy(value("good"), value("bad", fail=True), Timed("none", Toy.function, {"value": 1}, method="bm26"))
    findings = json.loads(work.make(toy, options).read_text())["findings"]
    assert findings[0] == "['good']"
    assert any("bad: ValueError: no such luck" in text for text in findings)
    assert any("none: FtbenchError: unknown method" in text for text in findings)
    before = _cell(options, "bad").stat().st_mtime_ns
    work.make(toy, options)
    assert _cell(options, "bad").stat().st_mtime_ns > before


def test_a_figure_that_is_no_longer_drawn_goes(options):
    work.make(Toy(value("one")), options)
    old = options.results / "studies/toy/old.svg"
    old.write_text("<svg/>")
    work.redraw(Toy(value("one")), options)
    assert not old.exists() and old.with_name("lines.svg").exists()


def test_where_cells_come_from_is_one_line():
    environment = {"cpu": "A chip", "gpu": None, "cores": 2, "threads": {"torch": 1}}
    clean = {"git": {"commit": "a" * 40, "dirty": False}, "environment": environment}
    dirty = {"git": {"commit": "b" * 40, "dirty": True}, "environment": environment}
    assert (
        work.origin([clean]) == f"1 cell made at commit {'a' * 10}, on A chip, 2 cores, 1 thread; all on a clean tree."
    )
    both = work.origin([clean, clean, dirty])
    assert f"{'a' * 10} (2 cells); {'b' * 10} (1 cell)" in both and "1 of them on a tree with changes" in both


# --- differences


def done(values, key="x"):
    record = {"data": {"fingerprint": "f"}, "task": {"definition_sha256": "t", "headline": "m"}, "status": "ok"}
    return Done(key, record, np.array(values, dtype=float))


def test_a_difference_is_paired_by_query_and_averaged_over_seeds():
    rng = np.random.default_rng(0)
    a = [done(rng.random(50) + 0.3) for _ in range(3)]
    b = [done(rng.random(50)) for _ in range(3)]
    found = base.difference(a, b)
    table = np.array([x.values - y.values for x, y in zip(a, b, strict=True)])
    assert found.mean == pytest.approx(table.mean()) and (found.queries, found.seeds) == (50, 3)
    assert (found.low, found.high) == stats.bootstrap(table, np.random.default_rng(20250412))
    assert found.low < found.mean < found.high and found.p < 0.001
    alone = base.difference(a[:1], b)
    assert alone.seeds == 3 and alone.a == pytest.approx(a[0].values.mean())


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(FtbenchError, match="cannot be paired"):
        base.difference([done([1])] * 2, [done([1])] * 3)
    with pytest.raises(FtbenchError, match="same queries"):
        base.difference([done([1, 2])], [done([1])])


def test_holm_keeps_names():
    family = {"a": base.difference([done([1, 1])], [done([0, 0])])}
    assert base.holm(family) == {"a": pytest.approx(family["a"].p)}


def test_labels_are_moved_apart_and_keep_their_order():
    assert base.spread_labels([1.0, 1.2, 5.0], 1.0) == [0.6, 1.6, 5.0]
    placed = base.spread_labels([3, 1, 2, 2, 9], 1.5)
    assert np.diff(np.sort(placed)).min() >= 1.5 - 1e-9
    assert np.argsort(placed, kind="stable").tolist() == [1, 2, 3, 0, 4]


# --- the command


@pytest.fixture
def typed(monkeypatch):
    monkeypatch.setattr("ftbench.studies.studies", lambda: {"toy": Toy(value("one"), value("two"), more=[value("x")])})
    return lambda *words: CliRunner().invoke(cli.app, ["study", *words])


def test_the_command_lists_makes_and_refuses(typed, tmp_path, session_cache):
    assert "toy" in typed().output and "2 cells, at most 1 h" in typed().output
    here = ["--results", str(tmp_path / "r")]
    assert "0 of 2 cells done, at most 1 h; 1 more with --full" in typed("toy", "--list", *here).output
    made = typed("toy", *here)
    assert made.exit_code == 0 and made.stdout.strip() == str(tmp_path / "r/studies/toy.json")
    assert "2 of 2 cells done" in typed("toy", "--list", *here).output
    assert typed("toy", "--redraw", *here).exit_code == 0
    for asked, message in (
        (["toy", "--redraw", "--force"], "--redraw makes no cells"),
        (["toy", "--data", "studio@240"], "--results"),
        (["tay"], "Did you mean 'toy'"),
    ):
        with pytest.raises(FtbenchError, match=message):
            raise typed(*asked).exception


def test_a_listed_cell_is_a_line_of_the_terminals_width_that_says_what_is_its_own(monkeypatch, tmp_path):
    common = tuple((f"setting{i}", "0") for i in range(20))
    wanted = [
        Cell(f"{'long-' * 8}{value}-{seed}", replace(LEXICAL, seed=seed, settings=(*common, ("k1", value))))
        for value in ("1.5", "2.5") for seed in range(2)
    ]  # fmt: skip
    monkeypatch.setattr("ftbench.studies.studies", lambda: {"toy": Toy(*wanted, value("one"))})
    monkeypatch.setenv("COLUMNS", "80")
    *lines, _ = CliRunner().invoke(cli.app, ["study", "toy", "--list", "--results", str(tmp_path)]).output.splitlines()
    assert len(lines) == 5 and all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines] == [*(cell.key for cell in wanted), "one"]
    assert len({line.index("not made") for line in lines}) == 1
    assert lines[0].partition("not made")[2].split()[0] == "k1=1.5," and "timed, value=1" in lines[4]
    rows = [("a", ["bm25"], "failed: no such\nluck"), ("b", ["bm25", "k1=2"], "done, 3 s")]
    assert cli_study._lines(rows, 60) == ["a  failed        no such luck", "b  done, 3 s     k1=2"]


# --- those there are


def test_studies_declare_what_they_need():
    for name, study in studies().items():
        small, full = study.cells(False), study.cells(True)
        assert study.name == name and 0 < study.hours <= 3 and study.title and "?" in study.question
        keys = [cell.key for cell in full]
        assert len(set(keys)) == len(keys) and {cell.key for cell in small} <= set(keys)
    with pytest.raises(FtbenchError, match="unknown study"):
        load_study("none")


@pytest.mark.parametrize("module", [console, errors, words, base, work], ids=lambda module: module.__name__)
def test_examples_in_docstrings_are_true(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
