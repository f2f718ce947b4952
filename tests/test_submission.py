"""Submissions: what is packed passes; records and run files that do not belong are refused, each with its reason."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import synthetic
from sent import CODE, SIZE, a_folder, a_world, known, refused, relist, rewrite, the_record, validate, written  # noqa: F401

from ftbench import record, runfile, submission, validation
from ftbench.errors import FtbenchError

# --- what is packed passes


def test_what_is_packed_passes_in_processes_of_its_own(world):
    verdict = validate(world / "packed", world)
    assert verdict.passed, verdict.as_text()
    assert (verdict.records, verdict.method, verdict.warnings) == (1, "my_method", [])
    assert not (world / "marker").exists()
    names = sorted(p.relative_to(world / "packed").as_posix() for p in (world / "packed").rglob("*") if p.is_file())
    assert [Path(name).suffix for name in names] == [".md", ".py", ".json", ".parquet", ".json"]
    readme = (world / "packed" / "README.md").read_text(encoding="utf-8")
    mean = record.read(the_record(world / "packed"))["scores"]["ndcg@10"]["mean"]
    assert f"| 1 | ndcg@10 | {mean:.3f} |" in readme and "ftbench validate packed" in readme


def test_a_packed_submission_enters_the_board(world, tmp_path):
    results = Path(shutil.copytree(world / "board", tmp_path / "results"))
    shutil.copytree(world / "packed" / "results", results, dirs_exist_ok=True)
    assert len(record.read_all(results)) == 5
    verdict = validation.validate(world / "packed", results)
    assert [f.check for f in verdict.problems] == ["duplicate"] and "the board has this run" in verdict.problems[0].text


@pytest.fixture
def trained(world, tmp_path, monkeypatch):
    """A results folder, and a function that adds a trained run of my_method to it; and its file."""
    code = tmp_path / "my_method.py"
    code.write_text(CODE.replace("MARKER", str(world / "marker")), encoding="utf-8")
    known(monkeypatch, code)
    monkeypatch.setitem(synthetic.METHODS, "my_method", ("Mine", 1.7, None, {"k": 2}, 50.0, 300))
    results = Path(shutil.copytree(world / "board", tmp_path / "results"))

    def add(**about):
        return synthetic.add(results, method="my_method", **(SIZE | about))

    return results, add, str(code)


def test_three_seeds_are_packed(trained, world, tmp_path):
    results, add, code = trained
    for seed in range(3):
        add(seed=seed)
    packed = submission.submit(tmp_path / "sent", code, results)
    assert packed.records == 3 and validate(tmp_path / "sent", world).passed
    with pytest.raises(FtbenchError, match="is there already"):
        submission.submit(tmp_path / "sent", code, results)


def edited(path, **fields):
    found = json.loads(path.read_text(encoding="utf-8")) | fields
    path.write_text(json.dumps(found), encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda add: add(seed=0), "seeds 0; a trained row has at least 3"),
        (lambda add: [edited(add(seed=s), git={"commit": "0" * 40, "dirty": True}) for s in range(3)], "not committed"),
        (
            lambda add: [edited(add(seed=s), git={"commit": None, "dirty": None}) for s in range(3)],
            "no commit could be named",
        ),
        (lambda add: [_fail(add(seed=s)) for s in range(3)], "a failed run"),
        (lambda add: [_dent(add(seed=s)) for s in range(3)], "the record says 0.5"),
        (lambda add: None, "has no runs of my_method"),
    ],
)
def test_what_cannot_enter_is_not_packed(trained, tmp_path, make, text):
    results, add, code = trained
    make(add)
    with pytest.raises(FtbenchError) as raised:
        submission.submit(tmp_path / "sent", code, results)
    assert text in str(raised.value) and not (tmp_path / "sent").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".sent")]


def _fail(path):
    edited(path, status="error", error="it broke", run_file=None)


def _dent(path):
    found = record.read(path)
    found["scores"]["ap@100"]["mean"] = 0.5
    edited(path, scores=found["scores"])


@pytest.fixture
def checkout(trained):
    """The results folder of `trained` in a checkout that has committed the board; and git in it."""
    results, add, code = trained

    def git(*words):
        name = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
        return subprocess.run(["git", "-C", str(results.parent), *name, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", "results")
    git("commit", "-qm", "the board")
    return results, add, code, git


def test_own_runs_that_are_not_committed_are_no_duplicates(checkout, tmp_path):
    """The way of CONTRIBUTING.md: run, submit, validate, all in one checkout; then another's, who has no such runs."""
    results, add, code, git = checkout
    for seed in range(3):
        add(seed=seed)
    sent = tmp_path / "sent"
    submission.submit(sent, code, results)
    verdict = validation.validate(sent, results)
    assert verdict.passed and verdict.own == 3 and "3 of them in the results folder, not committed" in verdict.as_text()
    (tmp_path / "my_method.py").write_text(CODE, encoding="utf-8")  # code that changed since gives no other's name
    git("add", "results")
    git("commit", "-qm", "accepted")
    verdict = validation.validate(sent, results)
    assert {f.check for f in verdict.problems} == {"duplicate"} and len(verdict.problems) == 3 and verdict.own == 0


def test_runs_that_are_committed_are_not_packed_again(checkout, tmp_path):
    results, add, code, git = checkout
    for seed in range(3):
        add(seed=seed)
    git("add", "results")
    git("commit", "-qm", "accepted")
    with pytest.raises(FtbenchError, match="on the board already .*, 3 in all.: there is nothing to submit"):
        submission.submit(tmp_path / "sent", code, results)
    for seed in range(3, 6):
        add(seed=seed)
    packed = submission.submit(tmp_path / "sent", code, results)
    assert (packed.records, packed.there, packed.left) == (3, 3, 0) and packed.unnamed == Path(code)
    assert validation.validate(tmp_path / "sent", results).passed


def test_a_checkout_without_a_board_is_warned_of(checkout, tmp_path):
    results, add, code, git = checkout
    git("rm", "-rq", "--cached", "results")
    git("commit", "-qm", "no board", "--allow-empty")
    for seed in range(3):
        add(seed=seed)
    submission.submit(tmp_path / "sent", code, results)
    verdict = validation.validate(tmp_path / "sent", results)
    assert verdict.passed and [f.check for f in verdict.warnings] == ["board"]


@pytest.mark.parametrize("parent", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_is_said_plainly(trained, tmp_path, parent):
    results, add, code = trained
    for seed in range(3):
        add(seed=seed)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(FtbenchError, match="cannot write .*sent: .*Name a new folder where you may write"):
        submission.submit(tmp_path / parent / "sent", code, results)


def test_code_outside_of_the_checkout_is_told_to_have_no_commit(trained, tmp_path):
    from typer.testing import CliRunner

    from ftbench.cli import app

    results, add, code = trained
    for seed in range(3):
        add(seed=seed)
    words = ["submit", str(tmp_path / "sent"), "--method", code, "--results", str(results)]
    assert f"Note: {code} lies outside of the checkout, so that no commit could be named" in CliRunner().invoke(
        app, words
    ).output.replace("\n", " ")


# --- the list


def test_what_is_no_submission_is_said_and_nothing_else(folder, world):
    (folder / "submission.json").unlink()
    (folder / "gallery.zip").write_bytes(b"")
    for place in (folder, world / "board"):
        verdict = validate(place, world)
        assert [f.text for f in verdict.problems if f.text.startswith("this is not a submission: no submission.json")]
        assert len(verdict.problems) == 1


@pytest.mark.parametrize("text", ["", "{}", '{"format": 9, "method": "x", "files": {}, "judgements": {}}'])
def test_a_broken_list_is_the_only_problem(folder, world, text):
    (folder / "submission.json").write_text(text, encoding="utf-8")
    verdict = validate(folder, world)
    assert [f.file for f in verdict.problems] == ["submission.json"], verdict.as_text()


# --- records


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f["data"].update(name="../../../etc"), "data.name"),
        (lambda f: f["task"].update(name=".."), "task.name"),
        (lambda f: f["method"].update(name="a/b"), "method.name"),
        (lambda f: f["run_file"].update(name="../../secret.parquet"), ": run_file: "),
        (lambda f: f["run_file"].update(name="/etc/passwd"), ": run_file: "),
        (lambda f: f["run_file"].update(name="other-0123456789ab.parquet"), "not the one of the same name"),
        (lambda f: f["scores"]["ndcg@10"].update(mean=1.5), "greater than the maximum"),
        (lambda f: f.update(seed=7), "is not the hash of the record's own key"),
        (lambda f: f.update(extra=1), "extra"),
        (lambda f: f.update(command="ftbench run\x07"), "U+0007"),
    ],
)
def test_records_that_are_none(folder, world, change, text):
    rewrite(folder, change, named=False)
    refused(folder, world, text, "schema")


@pytest.mark.parametrize(
    ("change", "text", "check"),
    [
        (lambda f: f["git"].update(dirty=True), "not committed", "provenance"),
        (lambda f: f["git"].update(dirty=None), "not committed", "provenance"),
        (lambda f: f.update(command="ftbench run --method x; rm -rf ~"), "not a plain `ftbench run`", "provenance"),
        (lambda f: f.update(command="ftbench run --method $(id)"), "not a plain `ftbench run`", "provenance"),
        (lambda f: f.update(command="curl example.org"), "not a plain `ftbench run`", "provenance"),
        (lambda f: f.update(date="9999-01-01T00:00:00Z"), "yet to come", "provenance"),
        (lambda f: f.update(date="2026-99-99T00:00:00Z"), "its date is none", "provenance"),
        (lambda f: f["method"].update(ranked=False), "not ranked", "provenance"),
        (lambda f: f["method"].update(trained=True), "a trained method has an encoder", "provenance"),
        (lambda f: f["method"].update(sha256="0" * 64), "other code than baselines/my_method.py", "provenance"),
        (lambda f: f["method"].update(config={"a": {"b": 1}}), "more than names, numbers", "provenance"),
        (lambda f: f["method"].update(name="other"), "but the submission is of my_method", "provenance"),
        (lambda f: f["data"].update(fingerprint="0" * 64), "another data set than the board's newest (fingerprint)",
         "stale"),
        (lambda f: f["data"].update(licence="Public domain"), "(licence)", "stale"),
        (lambda f: f["task"].update(definition_sha256="0" * 64), "another task definition", "stale"),
        (lambda f: f["task"].update(title="Solved"), "task definition than the board's newest (title)", "stale"),
        (lambda f: f["task"].update(relevant_from=1.0), "relevant_from", None),
        (lambda f: f.update(numerics=1), "numerics 1, the board has", "stale"),
        (lambda f: f["data"].update(name="nowhere"), "the board has no records of query2item on nowhere", "stale"),
        (lambda f: f["scores"]["rr@10"].update(high=1.0), "scores.rr@10.high: the record says 1.0", "rescore"),
        (lambda f: f["scores"]["recall@1"].update(mean=1.0, tie_high=1.0), "recall@10", "invariants"),
        (lambda f: f["run_file"].update(sha256="0" * 64), "not the run file that its record names", "rescore"),
        (lambda f: f.update(n_queries=19), "n_queries + n_skipped is 19, the run file has 20", "invariants"),
        (lambda f: f["task"].update(measures=["ndcg@999999999999"], headline="ndcg@999999999999"), "task", None),
    ],
)  # fmt: skip
def test_records_that_do_not_belong(folder, world, change, text, check):
    rewrite(folder, change)
    refused(folder, world, text, check)


def test_runs_that_the_board_has(folder, world):
    board = next((world / "board").rglob("bm25-*.json"))
    run_file = the_record(folder).with_suffix(".parquet")
    run_file.write_bytes(board.with_suffix(".parquet").read_bytes())
    rewrite(folder, lambda f: f["run_file"].update(record.read(board)["run_file"]))
    refused(folder, world, f"its run file is that of {board.name}", "duplicate")


def test_names_that_the_board_has(folder, world):
    """Rows are told apart by method name: other code by a known name would take its place."""
    for name in ("bm25", "BM25"):
        rewrite(folder, lambda f, name=name: f["method"].update(name=name))
        refused(folder, world, f"the board has other code by the name {name}", "duplicate")


# --- run files


def with_run(folder, change):
    """Replace the run by a changed one, and measure it anew: all numbers follow from it."""
    path = the_record(folder)
    found = json.loads(path.read_text(encoding="utf-8"))
    judged = next(folder.parent.glob("judged*"), None)
    judgements = runfile.read_judgements(judged)
    run = runfile.read_run(path.with_suffix(".parquet"), judgements)
    run, gains = change(run, judgements)
    field = runfile.write_run(path.with_suffix(".parquet"), run, gains)
    measured = record.measure(run, found["task"]["measures"])
    path.write_text(json.dumps(found | measured | {"run_file": field}), encoding="utf-8")
    relist(folder)


@pytest.fixture
def judged(folder, world):
    shutil.copy(next((world / "board" / "studio").glob("judgements-query2item-*")), folder.parent / "judged.parquet")


def _without(run, keep):
    """The run without some queries, and slices of those that are left."""
    ranking = run.rankings[""]
    spans = [range(ranking.offsets[q], ranking.offsets[q + 1]) for q in keep]
    ideals = [range(ranking.ideal_offsets[q], ranking.ideal_offsets[q + 1]) for q in keep]
    at, of = [e for span in spans for e in span], [e for span in ideals for e in span]
    part = {name: getattr(ranking, name)[at] for name in ("item", "rank", "score", "gain", "tie_first", "tie_size")}
    small = replace(
        ranking, **part, ideal=ranking.ideal[of], query_ids=[ranking.query_ids[q] for q in keep],
        offsets=pa.array([0, *_sums(spans)]).to_numpy(), ideal_offsets=pa.array([0, *_sums(ideals)]).to_numpy(),
    )  # fmt: skip
    left = {name: tuple(q for q in inside if q in small.query_ids) for name, inside in run.slices.items()}
    return record.Run({"": small}, left)


def _sums(spans):
    total = 0
    for span in spans:
        total += len(span)
        yield total


def test_hard_queries_cannot_be_left_out(folder, world, judged):
    with_run(folder, lambda run, gains: (_without(run, range(15)), gains))
    refused(folder, world, "5 of the board's queries are missing, 0 are new", "stale")


def test_the_gallery_cannot_be_another(folder, world, judged):
    def change(run, gains):
        ranking = run.rankings[""]
        return record.Run({"": replace(ranking, item_ids=[*ranking.item_ids, "item-99999"])}, run.slices), gains

    with_run(folder, change)
    refused(folder, world, "0 of the board's gallery items are missing, 1 are new", "stale")


def test_slices_cannot_be_chosen(folder, world, judged):
    easy = lambda run: record.Run(run.rankings, {name: inside[:2] for name, inside in run.slices.items()})  # noqa: E731
    with_run(folder, lambda run, gains: (easy(run), gains))
    refused(folder, world, "its slices are not those of the board", "stale")


def test_ranks_cannot_be_made_up(folder, world, judged):
    """Every relevant item first: the numbers follow from the run file, but scores and ties do not."""

    def change(run, gains):
        ranking = run.rankings[""]
        score = ranking.score.copy()
        score[1::2] = score[0::2][: len(score[1::2])] + 1
        return record.Run({"": replace(ranking, score=score)}, run.slices), gains

    with_run(folder, change)
    refused(folder, world, "scores rise with the rank", "invariants")


def test_judgements_cannot_be_other_ones(folder, world):
    path = folder / "submission.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for value in ({}, {"studio/query2item": {"": "0" * 64}}, {"studio/query2item": []}):
        path.write_text(json.dumps(manifest | {"judgements": value}), encoding="utf-8")
        refused(folder, world, "the judgements of studio/query2item are not the board's", "judgements")


# --- the outcome


def test_the_outcome_is_text_and_json_and_an_exit_code(folder, world, tmp_path):
    from typer.testing import CliRunner

    from ftbench.cli import app

    words = ["validate", str(folder), "--results", str(world / "board"), "--json", str(tmp_path / "out.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and done.output.endswith("passed\n")
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["passed"] is True
    written("evil\n::error::\x1b[31mgone")(folder)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "\x1b" not in done.output
    assert not [line for line in done.output.splitlines() if line.startswith("::")]
    told = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert told["passed"] is False and told["problems"][0]["check"] == "files" and told["limits"]["files"] == 1000


def test_an_unknown_encoder_is_a_warning(trained, world, tmp_path):
    results, add, code = trained
    for seed in range(3):
        path = add(seed=seed)
        found = record.read(path)
        found["encoder"]["name"] = "ViT-B-32/openai"
        run = record.run_of(path, found)
        judgements = runfile.read_judgements(record.judgements_path(path, found))
        path.unlink()
        path.with_suffix(".parquet").unlink()
        record.write(results, found, run.rankings, judgements, run.slices)
    submission.submit(tmp_path / "sent", code, results)
    verdict = validate(tmp_path / "sent", world)
    assert verdict.passed and {f.check for f in verdict.warnings} == {"encoder"}
