"""Searches of settings: what is tried, how it is halved, what is kept."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ftbench import cells, provenance, tune
from ftbench.cells import Done
from ftbench.cli import main
from ftbench.errors import FtbenchError, RunError
from ftbench.items import silent
from ftbench.method import load_method, method_names
from ftbench.report import searches
from ftbench.request import check
from ftbench.runner import Session
from ftbench.tune import Asked

ROOT = Path(__file__).resolve().parent.parent
LEXICAL = Asked("bm25", "query2item", "studio@200", trials=4)
TASK_OF = {"supervised": "query2item", "aligned": "cross_view", "zero-shot": "query2item"}

OVERLAP = '''"""Overlap: words in common. Differs from the paper: none."""
from dataclasses import dataclass
import numpy as np
from ftbench import method

class Method(method.Method):
    lexical, modalities = True, ("text",)
    space = {"zero-shot": {"title": (True, False), "power": (0.5, 2.0)}}

    @dataclass(frozen=True)
    class Config:
        title: bool = True
        power: float = 1.0

    def score(self, probes, gallery):
        if self.config.power == 2.0 and False:
            raise ValueError("no such power")
        columns = gallery.texts[:, :1] if self.config.title else gallery.texts
        items = [{w for i in row if i >= 0 for w in gallery.assets.texts[i].split()} for row in columns]
        asked = [set(probes.assets.texts[row[0]].split()) for row in probes.texts]
        return np.array([[len(q & item) ** self.config.power for item in items] for q in asked], dtype=np.float32)
'''


def session(results):
    return Session(results, lambda title: silent)


@pytest.fixture
def overlap(tmp_path):
    path = tmp_path / "overlap.py"
    path.write_text(OVERLAP)
    return path


# --- what is tried

SPACE = {"rate": (1, 2, 3), "loss": ("a", "b"), "gate": (False, True)}


def test_trials_are_the_defaults_and_distinct_others_of_the_space():
    start = {"rate": 9, "loss": "a", "gate": False, "kept": 1.5}
    drawn = tune.draw(SPACE, start, 8, "mean_pooling query2item")
    assert drawn[0] == start and len(drawn) == 8
    assert len({tuple(one.values()) for one in drawn}) == 8
    for one in drawn[1:]:
        assert all(one[key] in values for key, values in SPACE.items()) and one["kept"] == 1.5
    assert {one["rate"] for one in drawn[1:]} == {1, 2, 3}
    assert drawn == tune.draw(SPACE, start, 8, "mean_pooling query2item")
    assert drawn != tune.draw(SPACE, start, 8, "mean_pooling cross_view")
    assert drawn[:4] == tune.draw(SPACE, start, 4, "mean_pooling query2item")


def test_draws_stay_what_they_are_everywhere():
    drawn = tune.draw(SPACE, {"rate": 1, "loss": "a", "gate": False}, 4, "key")
    assert [tuple(one.values()) for one in drawn] == [(1, "a", False), (3, "a", False), (1, "a", True), (3, "b", True)]


@pytest.mark.parametrize(("rate", "count"), [(1, 12), (9, 13)])
def test_a_small_space_is_tried_whole(rate, count):
    drawn = tune.draw(SPACE, {"rate": rate, "loss": "a", "gate": False}, 50, "key")
    assert len(drawn) == count == len({tuple(one.values()) for one in drawn})
    assert tune.configurations(SPACE) == 12


def test_every_setting_of_the_space_is_given_so_that_no_earlier_search_leaks_in(overlap):
    overlap.write_text(
        overlap.read_text().replace("    @data", '    tuned = {"zero-shot": {"title": False}}\n    @data')
    )
    planned = tune.plan(Asked(str(overlap), "query2item", "studio@200"))
    assert planned.trials[0] == {"title": True, "power": 1.0}
    assert planned.request(0, 0).settings == (("title", "true"), ("power", "1.0"))
    assert check(planned.request(0, 0)).method.config.title is True
    assert load_method(str(overlap), track="zero-shot").config.title is False


def test_a_rung_has_a_share_of_the_budget_whichever_way_it_is_counted():
    fixed = (("trainer.budget", "10000"), ("trainer.batch_size", "32"))
    planned = tune.plan(Asked("mean_pooling", "cross_view", "studio@200", fixed=fixed))
    configs = [check(planned.request(3, rung)).config for rung in range(len(planned.rungs))]
    assert [(one.budget, one.steps, one.batch_size) for one in configs] == [(2500, 75, 32), (5000, 150, 32)]
    assert {planned.request(3, rung).split for rung in (0, 1)} == {"valid"}
    assert planned.trials[0]["trainer.image_rate"] == 0.03  # the aligned track's default
    assert len(tune.plan(LEXICAL).rungs) == 1


def test_wrong_searches_are_named_before_any_run():
    wrong = [("bm26", {}), ("random", {}), ("bm25", {"trials": 1}), ("bm25", {"fixed": (("b", "0.5"),)})]
    for (method, more), said in zip(wrong, ("Did you mean 'bm25'", "declares no settings", "--trials 1", "--set b"),
                                    strict=True):  # fmt: skip
        with pytest.raises(FtbenchError, match=said):
            tune.plan(Asked(method, "query2item", "studio@200", **more))
    with pytest.raises(FtbenchError) as all_of_them:
        tune.asked(["bm26", "oracle"], ["query2item"], ["studio@200"], Asked("", ""))
    assert "bm26" in str(all_of_them.value) and "oracle" in str(all_of_them.value)


@pytest.mark.parametrize(
    ("space", "said"), [('"nothing": (1, 2)', "no setting"), ('"trainer.steps": (1, 2)', "budget"),
                        ('"trainer.nothing": (1,)', "no setting")],
)  # fmt: skip
def test_a_space_of_what_cannot_be_set_is_refused(overlap, space, said):
    overlap.write_text(overlap.read_text().replace('"power": (0.5, 2.0)', space))
    with pytest.raises(RunError, match=said):
        tune.plan(Asked(str(overlap), "query2item", "studio@200"))


TOWERS = '''"""Two towers. Differs from the paper: none."""
from dataclasses import dataclass
from ftbench import method

class Method(method.TwoTower):
    @dataclass(frozen=True)
    class Config:
        margin: float = 0.2

    def loss(self, batch, towers, generator):
        return self.config.margin * towers.images(self.views.images[batch.items, 0]).sum()
'''


def test_of_an_inherited_space_only_what_the_config_has_is_searched(tmp_path):
    towers = tmp_path / "towers.py"
    towers.write_text(TOWERS)
    planned = tune.plan(Asked(str(towers), "query2item", "studio@200"))
    assert planned.space == {"trainer.learning_rate": (0.0015, 0.003, 0.006)}
    towers.write_text(TOWERS.replace("margin", "alignment_weight"))
    assert "alignment_weight" in tune.plan(Asked(str(towers), "query2item", "studio@200")).space
    towers.write_text(TOWERS.replace("    @data", "    space = method.spaces()\n    @data"))  # a space of its own
    with pytest.raises(RunError, match="alignment_weight, which is no setting"):
        tune.plan(Asked(str(towers), "query2item", "studio@200"))


@pytest.mark.parametrize("data", ["studio-confirm", "studio-confirm@200"])
def test_no_search_sees_what_confirms(data):
    with pytest.raises(RunError, match=f"{data} confirms what was tuned, and no search.*Type: --data studio$"):
        tune.plan(Asked("bm25", "query2item", data))


def test_default_stands_for_the_methods_of_the_board_that_have_something_to_choose():
    for task, lexical in (("query2item", True), ("cross_view", False)):  # bm25 has no image side
        found = tune.asked(["default", "gcl"], [task], ["studio"], Asked("", "", trials=3))
        names = [one.method for one in found]
        assert "factorized_transport_cached" in names and "random" not in names and ("bm25" in names) == lexical
        assert len(names) == len(set(names)) and {one.trials for one in found} == {3}


# --- halving


def done(key, score):
    record = {"status": "error" if score is None else "ok", "error": "ValueError: no", "cost": {},
              "scores": {"m": {"mean": score}}, "task": {"headline": "m"}}  # fmt: skip
    return Done(key, record if score is not None else record | {"scores": {}}, {})


@pytest.fixture
def climb(monkeypatch):
    """Makes a search of 8 trials whose scores at both rungs are given; returns what each rung had."""

    def go(*scores):
        given = iter(scores)

        def make(folder, wanted, jobs, force, tell, source):
            values = next(given)
            return {cell.key: done(cell.key, values[int(cell.key[2:]) - 1]) for cell in wanted if
                    values[int(cell.key[2:]) - 1] != "died"}  # fmt: skip

        monkeypatch.setattr(cells, "make", make)
        planned = tune.plan(Asked("mean_pooling", "cross_view", "studio@200"))
        return tune._climb(planned, Path("nowhere"), session(None), 1, False, told.append)

    told = go.told = []
    return go


def test_the_better_half_goes_on_and_the_defaults_with_it(climb):
    first, last = climb([0.1, 0.5, 0.2, 0.6, 0.3, 0.7, 0.2, 0.4], [0.9] * 8)
    assert sorted(first) == list(range(8)) and sorted(last) == [0, 1, 3, 5, 7]
    first, last = climb([0.9, 0.5, 0.2, 0.6, 0.3, 0.7, 0.2, 0.4], [0.5] * 8)
    assert sorted(last) == [0, 1, 3, 5]
    assert tune.best_first(last) == [0, 1, 3, 5]  # of equals the defaults first


def test_trials_that_fail_rank_last(climb):
    first, last = climb([None, 0.5, None, "died", None, 0.7, None, None], [None, 0.1, 0, 0, 0, 0.2, 0, 0])
    assert sorted(last) == [0, 1, 5] and first[3] is None
    assert tune.best_first(last) == [5, 1]
    climb([0.2, *[None] * 7], [0.1])
    assert climb.told[-1] == "mean_pooling: 1 trial at 0.5 of the budget"
    with pytest.raises(RunError, match="all trials of mean_pooling failed:\nValueError: no"):
        climb([None] * 8)


def test_the_gain_is_paired_over_units_and_null_where_there_is_none(climb):
    rng = np.random.default_rng(4)
    values = {name: rng.random(30) for name in ("a", "b")}
    last = {0: Done("0", done("0", 0.4).record, values["a"]), 2: Done("2", done("2", 0.6).record, values["b"])}
    planned = SimpleNamespace(trials=[{"x": 1, "y": 2}, {"x": 1, "y": 2}, {"x": 1, "y": 3}])
    found = tune._chosen(planned, last)
    assert found["difference"] == pytest.approx(values["b"].mean() - values["a"].mean(), abs=1e-8)
    assert found["low"] < found["difference"] < found["high"] and 0 < found["p"] <= 1
    assert (found["trial"], found["settings"], found["score"], found["default"]) == (3, {"y": 3}, 0.6, 0.4)
    last[0] = done("0", None)
    assert tune._chosen(planned, last) | {"score": 0} == {
        "trial": 3, "settings": {"y": 3}, "score": 0, "default": None, "difference": None, "low": None, "high": None,
        "p": None}  # fmt: skip


# --- a search from end to end


def test_a_search_is_written_and_found_again(session_cache, tmp_path, overlap):
    results, told = tmp_path / "results", []
    one = Asked(str(overlap), "query2item", "studio@200", trials=8)
    made = tune.run(one, session(results), tell=told.append)
    assert made.path == results / "tuning" / "studio@200" / "query2item" / "overlap.json" and not made.again
    assert len(made.told["trials"]) == 5 and "no more than 5" in told[0]
    (search,) = searches.searches(results)
    assert search.told == made.told and search.trials == "5 trials"
    best = max(trial["scores"][0] for trial in made.told["trials"])
    chosen = made.told["chosen"]
    assert chosen["score"] == best > chosen["default"] == made.told["trials"][0]["scores"][0]
    assert chosen["settings"]["title"] is False  # more words find more
    assert chosen["difference"] == pytest.approx(best - chosen["default"], abs=1e-5)
    # what a search chose may be written into the file
    line = tune.tuned([made.told])
    overlap.write_text(overlap.read_text().replace("    @data", f"    {line}\n\n    @data"))
    assert tune.run(one, session(results)).again
    made.path.unlink()  # the trials are made again: the file is another
    told.clear()
    again = tune.run(one, session(results), tell=told.append)
    assert [trial["scores"] for trial in again.told["trials"]] == [trial["scores"] for trial in made.told["trials"]]
    assert not any("(found)" in text for text in told)
    overlap.write_text(overlap.read_text().replace("len(q & item)", "len(item & q)"))
    assert not tune.run(one, session(results)).again


def test_an_interrupted_search_goes_on_where_it_was(session_cache, tmp_path, monkeypatch):
    results, told, make = tmp_path / "results", [], cells.make

    def interrupted(folder, wanted, *more):
        make(folder, wanted[:2], *more)
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune.run(LEXICAL, session(results), force=True)
    assert not list(results.rglob("*.json"))
    monkeypatch.setattr(cells, "make", make)
    made = tune.run(LEXICAL, session(results), tell=told.append)
    assert [("(found)" in text) for text in told] == [True, True, False, False]
    assert tune.run(LEXICAL, session(results)).again
    made.path.write_text("{")
    assert not tune.run(LEXICAL, session(results)).again


def test_a_failed_trial_is_told_and_not_chosen(session_cache, tmp_path, overlap):
    overlap.write_text(overlap.read_text().replace("and False", "and True"))
    made = tune.run(Asked(str(overlap), "query2item", "studio@200"), session(tmp_path / "results"))
    failed = [trial for trial in made.told["trials"] if trial["settings"]["power"] == 2.0]
    assert len(failed) == 2 and all(t["scores"] == [None] and "no such power" in t["error"] for t in failed)
    assert made.told["chosen"]["settings"].get("power") != 2.0
    assert searches.searches(tmp_path / "results")


def test_what_a_method_cannot_enter_is_no_search(session_cache, tmp_path):
    with pytest.raises(RunError, match="cannot be had on cross_view-valid"):
        tune.run(Asked("bm25", "cross_view", "studio@200"), session(tmp_path))


def test_the_command_trains_halves_and_says_what_to_put_where(session_cache, tmp_path, capsys, monkeypatch):
    results = tmp_path / "results"
    asked = ["tune", "-m", "mean_pooling", "-t", "cross_view", "-d", "studio@200", "--trials", "3", "--set",
             "trainer.budget=1600", "--set", "trainer.batch_size=16", "--results", str(results)]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["ftbench", *asked])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    (search,) = searches.searches(results)
    said, told = capsys.readouterr().out, search.told
    assert [rung["budget"] for rung in told["rungs"]] == [400, 800] and told["track"] == "aligned"
    reached = [trial["scores"][1] is not None for trial in told["trials"]]
    assert reached[0] and [rung["trials"] for rung in told["rungs"]] == [3, sum(reached)] and sum(reached) >= 2
    spent = [trial["forward_equivalents"] for trial in told["trials"]]
    assert all(0 < own <= (1200 if last else 400) for own, last in zip(spent, reached, strict=True))
    assert "0.25 of budget" in said and tune.tuned([told]) in said and str(results) in said
    assert told["command"] == " ".join(["ftbench", "tune", "--method", "mean_pooling", "--task", "cross_view", "--data",
                                        "studio@200", "--trials", "3", *asked[9:13]])  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"), [(["--trials", "1"], "--trials 1 given, expected at least 2"), (["--set", "x"], "KEY=VALUE"),
                       (["--split", "test"], "No such option: --split")],
)  # fmt: skip
def test_the_command_says_what_is_wrong(more, said, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ftbench", "tune", "-m", "bm25", "-t", "query2item", *more])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code and said in capsys.readouterr().err


def test_the_line_for_a_file_is_python():
    told = [{"track": "aligned", "chosen": {"settings": {"loss": "fused", "gate": True, "trainer.image_rate": 0.1}}},
            {"track": "supervised", "chosen": {"settings": {}}}]  # fmt: skip
    assert tune.tuned(told) == 'tuned = {"aligned": {"loss": "fused", "gate": True, "trainer.image_rate": 0.1}}'


def test_a_hash_without_what_was_tuned(tmp_path):
    file = tmp_path / "m.py"
    hashes = {}
    for name, body in {"none": "x = 1", "some": 'x = 1\n    tuned = {"a": {}}', "typed": "tuned: dict = {}\n    x = 1",
                       "other": "x = 2"}.items():  # fmt: skip
        file.write_text(f"class Method:\n    {body}\n")
        hashes[name] = provenance.source_sha256(file), provenance.source_sha256(file, tuned=False)
    assert hashes["none"][1] == hashes["some"][1] == hashes["typed"][1] == hashes["none"][0] != hashes["other"][1]
    assert len({full for full, _ in hashes.values()}) == 4


# --- what is committed


def trained():
    return [name for name in method_names() if load_method(name).trained]


@pytest.mark.parametrize("name", [*trained(), "bm25"])
def test_every_method_offers_enough_to_search(name):
    method = load_method(name)
    if method.home == "weak":  # a search looks at judgements, which this track has none of
        assert not method.space and not method.tuned
        return
    tracks = {"supervised", "aligned"} if "image" in method.modalities else {"supervised"}
    assert tracks <= set(method.space) or not method.trained
    for track, space in method.space.items():
        assert tune.configurations(space) >= tune.TRIALS, f"{name}, {track}"
        if track in TASK_OF:
            planned = tune.plan(Asked(name, TASK_OF[track], "studio"))
            for trial in range(len(planned.trials)):
                check(planned.request(trial, 0))


# searched twice, from a grid without and with the rate 0.001; the better of the two, which is the first, is committed
EARLIER = (
    "all_pairs", "attention_pooling", "factorized_transport", "late_interaction", "m3g", "sinkhorn_transport",
)  # fmt: skip


# what has changed since in its file is the space of the other track
CHANGED = (("sinkhorn_transport", "aligned"),)


def test_committed_searches_are_of_the_methods_as_they_are():
    for search in searches.searches(ROOT / "results"):
        now = provenance.source_sha256(load_method(search.method).path, tuned=False)
        same = search.told["method"]["untuned_sha256"] == now
        assert same == ((search.method, search.told["track"]) not in CHANGED), f"search again: {search.path}"


def test_the_defaults_of_methods_are_what_committed_searches_chose():
    def own(name):  # what its file says; a method that trains another one has that one's rates, too
        return type(load_method(name)).tuned

    found = {}
    for search in searches.searches(ROOT / "results"):
        found.setdefault((search.method, search.told["track"]), []).append(search.told)
    for (name, track), told in found.items():
        for one in told:
            planned = tune.plan(Asked(name, one["task"]["name"], "studio")).trials
            now = [dict(settings) for settings in planned] == [trial["settings"] for trial in one["trials"]]
            assert now == ((name, track) not in {(other, "aligned") for other in EARLIER}), f"{name}, {track}"
            assert not one["fixed"], f"{name}: a search with settings of its own is not committed"
            assert one["chosen"]["settings"] == own(name).get(track, {}), f"{name}, {track}"
    for name in method_names():
        for track, settings in own(name).items():
            assert (name, track) in found, f"{name} is tuned on {track} by no committed search: {settings}"
