"""Numbers follow from run files or it is said where they do not; runs can be made again from checked fields alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import synthetic

from ftbench import checks, record, reproduce, rescore, runner
from ftbench.errors import FtbenchError
from ftbench.items import silent
from ftbench.request import Request
from ftbench.search import rank_scores

QUICK = (("trainer.budget", "6000"), ("trainer.batch_size", "32"))


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def add(results, **about):
    return synthetic.add(results, n_queries=20, n_items=40, **about)


def edit(path, change):
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def command(*words):
    from typer.testing import CliRunner

    from ftbench.cli import app

    return CliRunner().invoke(app, [str(word) for word in words])


# --- re-scoring


def test_every_number_is_computed_again_and_noted(results):
    paths = [add(results, seed=0), add(results, seed=1), add(results, task="cross_view")]
    done = rescore.rescore(paths, silent)
    assert [one.path for one in done] == paths and not any(one.problems for one in done)
    note = json.loads(rescore.write_note(results, done).read_text(encoding="utf-8"))
    assert list(note) == sorted(record.read(path)["id"] for path in paths)
    for path in paths:
        found = record.read(path)
        assert note[found["id"]]["run_file"] == found["run_file"]["sha256"]
        assert rescore.has_passed(note, path, found)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("scores", "ndcg@10", "mean"), 0.9999),
        (("scores", "recall@1", "low"), 0.0),
        (("slices", "primary", "scores", "ndcg@10", "tie_low"), 0.0),
        (("slices", "primary", "n_queries"), 3),
        (("n_skipped",), 1),
    ],
)
def test_any_changed_number_is_named(results, place, value):
    path = add(results)

    def change(found):
        for name in place[:-1]:
            found = found[name]
        found[place[-1]] = value

    edit(path, change)
    (one,) = rescore.rescore([path], silent)
    assert len(one.problems) == 1
    assert one.problems[0].startswith(f"{'.'.join(place)}: the record says {value}, the run file gives ")
    assert json.loads(rescore.write_note(results, [one]).read_text(encoding="utf-8")) == {}


def test_a_number_in_the_last_digit_is_another_number(results):
    path = add(results)
    edit(
        path, lambda found: found["scores"]["ndcg@10"].update(mean=np.nextafter(found["scores"]["ndcg@10"]["mean"], 1))
    )
    assert "scores.ndcg@10.mean" in rescore.rescore_one(path).problems[0]


def test_a_missing_or_other_run_file_is_a_failure(results):
    gone, other = add(results, seed=0), add(results, seed=1)
    gone.with_suffix(".parquet").unlink()
    other.with_suffix(".parquet").write_bytes(b"PAR1")
    texts = [one.problems[0] for one in rescore.rescore([gone, other], silent)]
    assert "cannot be read" in texts[0] and "not the one its record names" in texts[1]


def test_the_note_holds_for_these_bytes_alone(results):
    first, second = add(results, seed=0), add(results, seed=1)
    rescore.write_note(results, rescore.rescore([first, second], silent))
    edit(first, lambda found: found.update(date="2026-02-02T10:00:00Z"))
    note = rescore.read_note(results)
    assert not rescore.has_passed(note, first, record.read(first))
    assert rescore.has_passed(note, second, record.read(second))
    rescore.write_note(results, rescore.rescore([first], silent))  # one alone: the other stays noted
    note = rescore.read_note(results)
    assert rescore.has_passed(note, first, record.read(first)) and rescore.has_passed(note, second, record.read(second))
    judged = record.judgements_path(first, record.read(first))
    judged.write_bytes(judged.read_bytes() + b" ")
    assert not rescore.has_passed(note, first, record.read(first))
    second.unlink()
    rescore.write_note(results, [])
    assert len(rescore.read_note(results)) == 1


def test_reproductions_are_noted_beside_their_originals(results):
    paths = [add(results), add(results, hardware="0123456789ab")]
    assert record.is_reproduction(paths[1])
    note = json.loads(rescore.write_note(results, rescore.rescore(paths, silent)).read_text(encoding="utf-8"))
    identity = record.read(paths[0])["id"]
    assert list(note) == [identity, f"{identity}.repro-0123456789ab"]


def test_several_processes_say_the_same(results, monkeypatch):
    paths = [add(results, seed=seed) for seed in range(4)]
    edit(paths[2], lambda found: found["scores"]["rr@10"].update(mean=0.5))
    alone = rescore.rescore(paths, silent)
    monkeypatch.setattr(rescore, "_ALONE", 1)
    monkeypatch.setattr(rescore.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    told = []
    assert rescore.rescore(paths, lambda done, total: told.append((done, total))) == alone
    assert [bool(one.problems) for one in alone] == [False, False, True, False] and told[-1] == (4, 4)


def test_the_command_says_what_differs_and_fails(results):
    good, bad = add(results, seed=0), add(results, seed=1)
    edit(bad, lambda found: found["scores"]["ap@100"].update(mean=0.75))
    done = command("rescore", "--results", results)
    assert done.exit_code == 1
    told = str(done.exception)
    assert "1 of 2 records" in told and bad.name in told and "scores.ap@100.mean: the record says 0.75" in told
    assert list(rescore.read_note(results)) == [record.read(good)["id"]]
    done = command("rescore", good, "--results", results)
    assert done.exit_code == 0 and done.output.startswith("1 record re-scored: every score follows from the run file")
    assert str(command("rescore", bad, "--results", results).exception).startswith("the record does not follow")


def test_failed_runs_are_counted_apart_and_made_again_without_force(results):
    nothing = record.measure(record.Run({}), synthetic.MEASURES, [])
    draft = synthetic.draft("bm25") | nothing | {"status": "error", "error": "ValueError: no"}
    failed = record.write(results, draft, {})
    said = "1 failed run without run file and scores: nothing to re-score.\n"
    assert command("rescore", "--results", results).output == said
    add(results)
    told = command("rescore", "--results", results).output
    assert told.startswith("1 record re-scored: every score follows") and told.endswith(said)
    advice = str(command("verify", failed, "--results", results).exception)
    assert "a failed run" in advice and "ftbench run" in advice and "--force" not in advice


# --- invariants


def ranking(scores, gains=None, items=None):
    items = items or [f"item{i:02d}" for i in range(scores.shape[1])]
    queries = [f"q{i}" for i in range(len(scores))]
    gains = gains or {query: {items[i]: 3.0, items[-1]: 1.0} for i, query in enumerate(queries)}
    return rank_scores(scores.astype(np.float32), queries, items, gains, relevant_from=1.0)


@pytest.fixture
def ranked():
    return ranking(np.random.default_rng(1).integers(0, 9, (5, 30)))


def test_true_rankings_have_no_findings(ranked, results):
    names = synthetic.MEASURES
    assert checks.ranking_problems(ranked) == [] and checks.measure_problems(ranked, names) == []
    for about in ({"ties": True}, {"task": "cross_view"}, {"method": "random"}, {"method": "oracle"}):
        path = add(results, **about)
        assert reproduce.verify(path, record.read(path)) == []


def swapped(array, i, j):
    out = array.copy()
    out[[i, j]] = out[[j, i]]
    return out


def put(array, i, value):
    out = array.copy()
    out[i] = value
    return out


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: {"query_ids": ["q0", "q0", *r.query_ids[2:]]}, "a query id occurs twice"),
        (lambda r: {"item_ids": [r.item_ids[1], *r.item_ids[1:]]}, "an item id occurs twice"),
        (lambda r: {"depth": 31}, "depth 31 with a gallery of 30"),
        (lambda r: {"depth": 12}, "fewer than the 12 entries"),
        (lambda r: {"rank": put(r.rank, 3, 5)}, "the first ranks are not 1, 2, 3"),
        (lambda r: {"rank": put(r.rank, -1, 99)}, "not between 1 and the size"),
        (lambda r: {"score": put(r.score, 0, np.nan)}, "NaN or infinite"),
        (lambda r: {"score": put(r.score, 1, 99)}, "scores rise"),
        (lambda r: {"item": put(r.item, 1, r.item[0])}, "an item stands twice"),
        (lambda r: {"tie_size": put(r.tie_size, 0, 0)}, "outside its tie group"),
        (lambda r: {"score": np.linspace(99, 0, len(r.score), dtype=np.float32)}, "tie groups do not agree"),
        (lambda r: {"item": swapped(r.item, *_tied(r))}, "not in order of id"),
        (lambda r: {"gain": put(r.gain, int(np.argmax(r.gain)), 0)}, "a relevant item is missing"),
    ],
)
def test_what_is_no_ranking_is_found(ranked, change, text):
    found = checks.ranking_problems(replace(ranked, **change(ranked)))
    assert any(text in one for one in found), found


def _tied(r):
    owner = np.repeat(np.arange(len(r.query_ids)), np.diff(r.offsets))
    at = next(i for i in range(len(owner) - 1) if owner[i] == owner[i + 1] and r.tie_first[i] == r.tie_first[i + 1])
    return at, at + 1


def test_judgements_that_no_run_could_satisfy_are_found(ranked):
    ideal = np.sort(ranked.ideal)  # no longer descending within a query
    found = checks.measure_problems(replace(ranked, ideal=ideal), ["ndcg@10"])
    assert any("a perfect run would not have ndcg@10 = 1" in text for text in found)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f["scores"]["recall@10"].update(mean=0.0, tie_low=0.0), "recall@10 (0.0) is below recall@1"),
        (lambda f: f["scores"]["ndcg@10"].update(tie_low=0.9, tie_high=1.0), "does not hold its mean"),
        (lambda f: f["scores"]["recall@100"].update(reason=None), "recall@100 is missing without a reason"),
        (lambda f: f["slices"]["primary"].update(n_queries=99), "counts 99 queries, the whole run 20"),
        (lambda f: f["scores"].pop("rr@10"), "not those of the task"),
        (lambda f: f["cost"].update(train_seconds=1e6), "cost: train_seconds 1000000.0, embed_seconds"),
        (lambda f: f["cost"].update(total_seconds=1.0), "together, total_seconds is 1.0"),
        (lambda f: f["cost"].update(search_p50_ms=99.0), "search_p50_ms 99 is above"),
        (lambda f: f["cost"].update(forward_equivalents=1000.0), "forward_equivalents 1,000, but 101,000 image"),
        (lambda f: f["cost"].update(forward_equivalents=1e6), "of this encoder are 124,934 to 374,802"),
        (lambda f: f["cost"].update(flops=1.0), "cost: flops 1, but forward_equivalents are"),
    ],
)
def test_numbers_that_cannot_be_are_found(results, change, text):
    found = record.read(add(results))
    change(found)
    told = checks.score_problems(found) + checks.cost_problems(found)
    assert any(text in one for one in told), told


def headline(method, scores, gains=None):
    run = record.Run({"": ranking(scores, gains)})
    measured = record.measure(run, ["ndcg@10"])
    return {"method": {"name": method}, "task": {"headline": "ndcg@10", "pairs": []}} | measured, run


def test_the_order_of_ids_is_not_a_method():
    """All scores equal: canonical order puts the last ids first, and here they are the relevant ones."""
    gains = {f"q{i}": {"item29": 3.0} for i in range(40)}
    found = checks.chance_problems(*headline("mine", np.zeros((40, 30)), gains))
    assert len(found) == 1 and "the ids' order, not the method" in found[0]


def test_chance_is_what_a_constant_scorer_expects():
    rng = np.random.default_rng(3)
    gains = {f"q{i}": {f"item{rng.integers(30):02d}": 3.0} for i in range(200)}
    good = np.zeros((200, 30))
    for i in range(200):
        good[i, int(next(iter(gains[f"q{i}"]))[4:])] = 1
    chance = sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / 30
    assert checks._expected([checks._constant(ranking(good, gains))], "ndcg@10") == pytest.approx(chance, abs=1e-12)
    noise = rng.standard_normal((200, 30))
    assert checks.chance_problems(*headline("random", noise, gains)) == []
    assert checks.chance_problems(*headline("mine", good + 0.1 * noise, gains)) == []
    assert "of random is" in checks.chance_problems(*headline("random", good + 0.1 * noise, gains))[0]
    assert "below chance" in checks.chance_problems(*headline("mine", -good + 0.1 * noise, gains))[0]


# --- runs made again


@pytest.fixture
def original(session_cache, tmp_path):
    session = runner.Session(tmp_path / "results", lambda title: silent)
    asked = Request("factorized_transport", "query2item", "studio@200", seed=1, settings=(*QUICK, ("loss", "fused")))
    return runner.run(asked, session).path


def scratch(tmp_path):
    return runner.Session(tmp_path / "scratch", lambda title: silent)


def test_a_run_is_made_again_from_its_fields(original, tmp_path):
    marker = tmp_path / "marker"
    edit(original, lambda found: found.update(command=f"touch {marker}; ftbench run --method random"))
    found = record.read(original)
    made = reproduce.reproduce(original, found, scratch(tmp_path))
    assert made.succeeded and made.same_run_file and all(made.same.values())
    assert record.read(made.path)["id"] == found["id"] and not marker.exists()
    assert all(one.stored == one.again for one in made.differences)
    again = reproduce.reproduce(original, found, scratch(tmp_path), keep=True)
    assert again.kept is None and "same hardware" in again.not_kept
    assert [path.name for path in original.parent.glob("*.json")] == [original.name]


def test_a_rerun_elsewhere_is_kept_beside_the_original(original, tmp_path):
    edit(original, lambda found: found["environment"].update(fingerprint="abcdef012345"))
    before = original.read_bytes()
    made = reproduce.reproduce(original, record.read(original), scratch(tmp_path), keep=True)
    assert record.is_reproduction(made.kept) and made.kept.parent == original.parent
    assert original.read_bytes() == before and not made.same["hardware"]
    assert reproduce.verify(made.kept, record.read(made.kept)) == []


def test_a_difference_outside_the_interval_is_no_reproduction(original, tmp_path):
    def change(found):
        found["scores"]["ndcg@10"].update(mean=0.9999, low=0.9998, high=1.0)

    edit(original, change)
    made = reproduce.reproduce(original, record.read(original), scratch(tmp_path))
    assert not made.succeeded and any("OUTSIDE" in line for line in reproduce.told(made))
    assert reproduce.verify(original, record.read(original))[0].startswith("scores.ndcg@10.high: the record says 1.0")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f["method"].update(name="evil.py"), "method evil.py is not installed"),
        (lambda f: f["method"].update(name="x@y"), "method x@y is not installed"),
        (lambda f: f["task"].update(name="strict.toml"), "task strict.toml is not installed"),
        (lambda f: f["data"].update(name="nowhere"), "unknown data set 'nowhere'"),
        (lambda f: f["encoder"].update(name="ViT-B-32//tmp/weights.pt"), "is a weights file"),
        (lambda f: f["method"]["config"].update(loss={"a": 1}), "setting loss is {'a': 1}"),
        (lambda f: f["method"]["config"].update(loss="$(touch x)"), "expected one of"),
        (lambda f: f["method"]["config"].update(other=1), "unknown setting 'other'"),
        (lambda f: f["trainer"].update(batch_size="64; true"), "expected a whole number"),
        (lambda f: f["method"]["config"].pop("loss"), "settings that the record does not name: loss"),
    ],
)
def test_nothing_but_installed_names_and_known_settings_is_run(original, change, text):
    found = record.read(original)
    change(found)
    with pytest.raises(FtbenchError) as raised:
        reproduce.request_of(found)
    assert text in str(raised.value)


@pytest.mark.parametrize("about", [{"method": "bm25"}, {"method": "mean_pooling", "track": "zero-shot"}])
def test_what_is_not_trained_is_made_again_too(session_cache, tmp_path, about):
    path = runner.run(Request(task="query2item", data="studio@200", **about), scratch(tmp_path / "first")).path
    made = reproduce.reproduce(path, record.read(path), scratch(tmp_path))
    assert made.succeeded and made.same_run_file


def test_verify_as_a_command(original):
    results = original.parents[2]
    done = command("verify", original.stem, "--results", results)
    assert done.exit_code == 0 and "invariants hold" in done.output
    assert "type: ftbench verify x --rerun --keep" in str(command("verify", "x", "--keep").exception)
    edit(original, lambda found: found["cost"].update(train_seconds=1e5))
    assert "cost: train_seconds 100000.0" in str(command("verify", original.stem, "--results", results).exception)
    original.with_suffix(".parquet").unlink()
    done = command("verify", original.stem, "--results", results)
    assert done.exit_code == 1 and "cannot be read" in str(done.exception)
