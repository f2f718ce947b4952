"""The board's tables for papers and programs: the numbers of the board, marked as it marks them, whatever names say."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import synthetic

from ftbench import export, record, runfile
from ftbench.errors import FtbenchError
from ftbench.export import Choice
from ftbench.report import words
from ftbench.report.aggregate import load, tables

HOSTILE = r'100% & $x_1$ #{~^} \input{/etc/passwd} <b>|"é" 日本 → ε'


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "results"
    for task in ("query2item", "cross_view"):
        for seed in range(2):
            synthetic.add(folder, n_queries=40, n_items=110, task=task, seed=seed)
            synthetic.add(folder, n_queries=40, n_items=110, task=task, seed=seed, method="mean_pooling")
        synthetic.add(folder, n_queries=40, n_items=110, task=task, method="random")
    synthetic.add(folder, n_queries=40, n_items=110, method="oracle")
    synthetic.add(folder, n_queries=40, n_items=110, data="magento-luma")
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A board whose method's title and settings are full of other languages' syntax."""
    folder = tmp_path_factory.mktemp("hostile") / "results"
    with pytest.MonkeyPatch.context() as patch:
        for title in (HOSTILE, "=cmd|' /C calc'!A0"):
            plain = synthetic.METHODS["bm25"]
            patch.setitem(synthetic.METHODS, "bm25", (title, *plain[1:]))
            for value in ("a & b", r"\end{tabular}"):
                synthetic.add(folder, n_queries=20, n_items=40, method="bm25", config={"mode": value, "t": title})
    return folder


CHOICE = Choice(("query2item",), ("studio",))


def rows_of(results):
    return next(t for t in tables(load(results)) if (t.task["name"], t.data["name"]) == ("query2item", "studio"))


def test_csv_and_json_hold_every_number_exactly(results):
    told = json.loads(export.export(results, "json", Choice()))
    cells = list(csv.DictReader(io.StringIO(export.export(results, "csv", Choice()))))
    assert len(told) == len(cells)
    for cell, one in zip(cells, told, strict=True):
        for name in ("mean", "low", "high", "tie_low", "tie_high"):
            assert (float(cell[name]) if cell[name] else None) == one[name]
        assert cell["records"].split(" ") == one["records"]
    assert {(one["task"], one["data"]) for one in told} == {
        ("query2item", "studio"), ("query2item", "magento-luma"), ("cross_view", "studio"),
    }  # fmt: skip
    for row in rows_of(results).all_rows:
        found = {
            one["measure"]: one for one in told
            if (one["task"], one["data"], one["method"]) == ("query2item", "studio", row.method)
        }  # fmt: skip
        assert found["ndcg@10"]["mean"] == row.headline.mean and found["ndcg@10"]["low"] == row.headline.low
        assert found["recall@1"]["mean"] == row.scores["recall@1"].mean and found["recall@1"]["low"] is None
        assert found["ndcg@10"]["group"] == row.group and found["ndcg@10"]["ranked"] == row.ranked
        assert "recall@500" not in found  # no row has it on this gallery


def test_intervals_of_other_measures_are_those_of_the_records(results):
    """With one seed the board's interval is the record's own."""
    told = json.loads(export.export(results, "json", Choice(("query2item",), ("magento-luma",), intervals=True)))
    found = next(r for _, r in record.read_all(results) if r["data"]["name"] == "magento-luma")
    assert len(told) == 7
    for one in told:
        score = found["scores"][one["measure"]]
        assert (one["low"], one["high"]) == (score["low"], score["high"])


def test_measures_that_are_not_their_run_files_get_no_intervals(tmp_path):
    path = synthetic.add(tmp_path, n_queries=20, n_items=40)
    found = record.read(path)
    found["scores"]["recall@10"]["mean"] = 0.9
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(FtbenchError, match=f"recall@10 of .* is not what its run files give: ftbench rescore {path}"):
        export.export(tmp_path, "csv", Choice(intervals=True))


def test_choices(results):
    told = json.loads(export.export(results, "json", Choice(measures=("recall@10", "recall@1"), tasks=("cross_view",))))
    assert [one["measure"] for one in told[:2]] == ["recall@10", "recall@1"]
    assert {one["task"] for one in told} == {"cross_view"}
    for choice, text in (
        (Choice(tasks=("query2itm",)), "unknown task 'query2itm'. Did you mean 'query2item'?"),
        (Choice(data=("luma",)), "unknown data set 'luma'"),
        (Choice(boards=("equal",)), "unknown board 'equal'"),
        (Choice(boards=("equal-steps",), tasks=("cross_view",)), "cross_view on studio has no equal-steps runs"),
        (Choice(measures=("foo@10",)), "unknown measure 'foo@10'"),
        (Choice(measures=("p@10",)), "Known: ap@100, hit@10, ndcg@10,"),
        (Choice(measures=("ndcg",)), "unknown measure 'ndcg'"),
        (Choice(measures=("ndcg@7",)), "unknown measure 'ndcg@7'"),
        (Choice(tasks=("cross_view",), data=("magento-luma",)), "no table has this task on this data set"),
    ):
        with pytest.raises(FtbenchError) as raised:
            export.export(results, "csv", choice)
        assert text in str(raised.value)
    with pytest.raises(FtbenchError, match="unknown format 'xls'"):
        export.export(results, "xls", Choice())


def test_latex_marks_the_best_and_its_group(results):
    text, table = export.export(results, "latex", CHOICE), rows_of(results)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert lines[0].startswith("    Method & nDCG@10 & ")
    assert len(lines) == 1 + len(table.all_rows) and text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 1
    for line, row in zip(lines[1:], (*table.rows, *table.references), strict=True):
        first = line.split(" & ")[1]
        assert words.score(row.headline.mean) in first
        assert (r"\underline" in first) == (row.group == "best")
        assert (r"\textbf" in first) == (words.score(row.headline.mean) == words.score(table.rows[0].headline.mean))
    assert r"\midrule" in text.split(r"\textit{Oracle}")[0].splitlines()[-2]
    assert "--" not in "".join(lines)
    shown = export.export(results, "latex", Choice(("query2item",), ("studio",), intervals=True))
    ends = words.interval(table.rows[0].headline.low, table.rows[0].headline.high).replace("–", "--")
    assert rf"{{\scriptsize {ends}}}" in shown


def test_the_best_of_a_column_ignores_ceilings(results):
    lines = export.export(results, "latex", CHOICE).splitlines()
    oracle = next(line for line in lines if "Oracle" in line)
    assert r"\textbf" not in oracle
    columns = [line.split(" & ") for line in lines if line.endswith(r"\\")][1:]
    for column in range(1, 8):
        assert sum(r"\textbf" in row[column] for row in columns) >= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"a\b", r"a\textbackslash{}b"), ("{}", r"\{\}"), ("50% & #1", r"50\% \& \#1"), ("0.1–0.2", "0.1--0.2"),
        ("$x_i^2$ ~", r"\$x\_i\textasciicircum{}2\$ \textasciitilde{}"), ("é", "é"), ("日本", "??"), ("ﬁne", "fine"),
        ("a\nb\x1b", "a b "), ("[x]", "{[}x{]}"),
    ],
)  # fmt: skip
def test_texts_are_escaped_for_latex(text, shown):
    assert export.tex(text) == shown


def test_hostile_titles_stay_texts(hostile):
    latex = export.export(hostile, "latex", Choice())
    assert r"\input" not in latex and r"\textbackslash{}input\{/etc/passwd\}" in latex
    assert latex.count(r"\end{tabular}") == 1
    lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 5 and {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {5}
    bare = re.sub(r"\\[{}$%#&_]", "", latex)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0 and bare.count("#") == 0
    table = [line for line in export.export(hostile, "markdown", Choice()).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1 and "<b>" not in "".join(table)
    cells = list(csv.DictReader(io.StringIO(export.export(hostile, "csv", Choice()))))
    assert {cell["title"][:2] for cell in cells} == {"'=", "10"}
    assert len(json.loads(export.export(hostile, "json", Choice()))) == len(cells)


def test_markdown_shows_the_table(results):
    text, table = export.export(results, "markdown", CHOICE), rows_of(results)
    assert f"| {table.rows[0].title} | 2 | **{words.score(table.rows[0].headline.mean)}** |" in text
    assert "| Oracle | 1 | " in text and text.splitlines()[-1].endswith("| not ranked |")


def test_latex_compiles(results, hostile, tmp_path):
    engine = next(filter(None, map(shutil.which, ("pdflatex", "tectonic", "lualatex", "xelatex"))), None)
    if engine is None:
        pytest.skip("no TeX here (looked for pdflatex, tectonic, lualatex, xelatex)")
    body = export.export(results, "latex", Choice(intervals=True)) + export.export(hostile, "latex", Choice())
    head = r"\documentclass[landscape]{article}\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{booktabs}"
    (tmp_path / "x.tex").write_text(head + "\n\\begin{document}\n" + body + "\\end{document}\n", encoding="utf-8")
    flags = [] if "tectonic" in engine else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *flags, "x.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "x.pdf").is_file()


def test_the_same_records_give_the_same_text(results):
    for format_ in export.FORMATS:
        assert export.export(results, format_, CHOICE) == export.export(results, format_, CHOICE)


def test_a_rank_group_with_holes_is_explained_where_there_are_people(results):
    table = rows_of(results)
    groups = ["best", "below", "best", *["below"] * (len(table.rows) - 3)]
    rows = [replace(row, group=group) for row, group in zip(table.rows, groups, strict=True)]
    holed, whole = replace(table, rows=tuple(rows)), replace(table, rows=(rows[0], rows[2], rows[1], *rows[3:]))
    told = "A row may be separable from the best though a lower one"
    assert export._latex([holed], CHOICE).splitlines()[1].startswith("% " + told)
    *_, empty, last = export._markdown([holed], CHOICE).splitlines()
    assert not empty and last.startswith(told)
    assert told not in export._csv([holed], CHOICE)
    assert told not in export._latex([whole], CHOICE) + export._markdown([whole], CHOICE)


def test_progress_of_intervals_counts_the_rows_of_all_tables_from_the_start(results):
    told = []
    export.export(results, "csv", Choice(intervals=True), lambda *words: told.append(words))
    rows = sum(len(table.all_rows) for table in tables(load(results)))
    counts = [(done, total) for done, total, *stage in told if stage == ["intervals of every measure"]]
    assert counts == [(done, rows) for done in range(rows + 1)]


def test_as_a_command(results, tmp_path):
    from typer.testing import CliRunner

    from ftbench.cli import app

    def run(*words):
        return CliRunner().invoke(app, ["export", *words, "--results", str(results)])

    words_ = ("--format", "latex", "--task", "query2item", "--data", "studio", "--measure", "ndcg@10")
    done = run(*words_)
    assert done.exit_code == 0 and done.output.startswith("% Needs")
    assert run(*words_, "--out", str(tmp_path / "t.tex")).output.strip() == str(tmp_path / "t.tex")
    assert (tmp_path / "t.tex").read_text(encoding="utf-8") == done.output
    path, found = record.read_all(results)[0]
    expected = "".join(f"{line}\n" for line in runfile.export_trec(record.run_of(path, found), found["method"]["name"]))
    assert run(str(path)).output == run(path.stem, "--format", "trec").output == expected
    assert "a record is exported as trec, qrels; leave" in str(run(str(path), "--format", "csv").exception)
    assert "trec and qrels are for one: ftbench export RECORD" in str(run("--format", "trec").exception)
    assert f"{tmp_path} is a folder. Name a file in it" in str(run("--out", str(tmp_path)).exception)


@pytest.mark.parametrize("task", ["query2item", "cross_view"])
def test_a_record_for_trec_eval(results, task):
    """Tag and ids as other tools read them: three measures from the two files are the record's own."""
    import pytrec_eval

    path, found = next((p, r) for p, r in record.read_all(results) if r["task"]["name"] == task)
    run, qrels = {}, {}
    for line in export.of_record(path, found, "trec").splitlines():
        query, _, item, _, score, tag = line.split(" ")
        assert re.fullmatch(r"[A-Za-z0-9_-]+", tag) and tag == found["method"]["name"]
        run.setdefault(query, {})[item] = float(score)
    for line in export.of_record(path, found, "qrels").splitlines():
        query, zero, item, gain = line.split(" ")
        assert zero == "0"
        qrels.setdefault(query, {})[item] = int(gain)
    level = int(found["task"]["relevant_from"])
    told = pytrec_eval.RelevanceEvaluator(qrels, {"recall_10", "success_10"}, relevance_level=level).evaluate(run)
    for name, theirs in (("recall@10", "recall_10"), ("hit@10", "success_10")):
        mean = sum(one[theirs] for one in told.values()) / len(told)
        assert mean == pytest.approx(found["scores"][name]["mean"], abs=1e-9)


def test_tags_hold_no_signs_and_gains_that_are_not_whole_are_refused(results):
    path, found = record.read_all(results)[0]
    odd = found | {"method": found["method"] | {"name": "a.b c"}}
    assert export.of_record(path, odd, "trec").splitlines()[0].endswith(" a_b_c")
    with pytest.raises(FtbenchError, match="is 0.1: qrels hold whole numbers alone"):
        list(runfile.export_qrels({"": {"q": {"i": 0.1}}}))
    with pytest.raises(FtbenchError, match="no spaces in ids"):
        list(runfile.export_qrels({"": {"q 1": {"i": 1.0}}}))


def test_the_caption_says_what_the_marks_mean(results):
    text = export.export(results, "latex", CHOICE)
    caption = next(line for line in text.splitlines() if "caption" in line)
    assert "Bold: best of its column. Underlined: not separable from the best by nDCG@10 (paired" in caption
    assert r"Holm-adjusted, 5\%).}" in caption and "Bold" not in text.splitlines()[0]
    other = export.export(results, "latex", Choice(("query2item",), ("studio",), measures=("recall@10",)))
    assert "Bold" in other and "Underlined" not in other
