"""Weak supervision that is asked for what cannot be: labellers, judges and settings that are refused, and why."""

from dataclasses import replace

import numpy as np
import pytest
from test_trainer import encoder, trainer_of  # noqa: F401
from test_weak import SMALL, fitted
from test_weak_batches import sets_of

from ftbench.errors import FtbenchError, RunError
from ftbench.method import load_method
from ftbench.weak.labellers import identity_of, weak_labeller

FORM = "weak_supervision"


def _method_file(tmp_path, body):
    path = tmp_path / "labeller.py"
    path.write_text(
        "import numpy as np\nfrom ftbench import method\n\n\nclass Method(method.Method):\n    lexical = True\n\n"
        "    def score(self, probes, gallery):\n"
        f"        found = np.random.default_rng(0).random((len(probes), len(gallery)))\n{body}        return found\n"
    )
    return str(path)


def test_labellers_that_do_not_exist_or_may_not_label_are_refused():
    with pytest.raises(FtbenchError, match="labeller=bm24: unknown method 'bm24'.*Did you mean 'bm25'"):
        load_method("weak_supervision", {"labeller": "bm24"}, "weak")
    with pytest.raises(FtbenchError, match="oracle reads what no method may"):
        load_method("weak_supervision", {"labeller": "oracle"}, "weak")
    with pytest.raises(FtbenchError, match="ranker=bm25: it is no two-tower method"):
        load_method("weak_supervision", {"ranker": "bm25"}, "weak")


def test_a_labeller_that_gives_no_numbers_is_named_with_the_query(toy, encoder, tmp_path):  # noqa: F811
    name = _method_file(tmp_path, "        found[3, 1] = np.nan\n")
    with pytest.raises(RunError, match="labeller labeller gave the query 'lamp for room 3' a score that is NaN"):
        fitted("weak_supervision", toy, encoder, labeller=name)


def test_a_query_without_labels_counts_for_nothing_and_is_counted(toy, encoder, tmp_path):  # noqa: F811
    name = _method_file(tmp_path, "        found[:3] = 0.5\n        found[3, 1:] = 0\n")
    _, trained = fitted("weak_supervision", toy, encoder, labeller=name)
    assert trained.stages[0].told["unlabelled"] == 3
    with pytest.raises(RunError, match="scores all items alike for each of the 20 training queries"):
        fitted("weak_supervision", toy, encoder, labeller=_method_file(tmp_path, "        found[:] = 1\n"))


def test_a_budget_that_labelling_would_spend_is_refused(toy, encoder):  # noqa: F811
    with pytest.raises(RunError, match="labelling takes .* Give more"):
        fitted("gws_self", toy, encoder, budget=100.0)


@pytest.mark.parametrize("locked", [True, False])
def test_steps_that_are_fewer_than_trainings_are_refused(locked, toy, encoder):  # noqa: F811
    form, sets = load_method("gws_joint", SMALL, "weak"), sets_of(toy)
    trainer = trainer_of(replace(encoder, locked=locked), "equal-compute" if locked else "equal-steps", steps=4)
    with pytest.raises(RunError, match=r"^4 steps are for 5 trainings, .*trainer.steps=500\) or .*generations=1\)\.$"):
        form.fit(*sets, trainer)


def test_a_form_that_chooses_needs_validation_queries_that_somebody_knows(toy, encoder):  # noqa: F811
    form = load_method("gws_greedy", SMALL, "weak")
    train, valid = sets_of(toy)
    for none in (replace(valid, query_texts=()), replace(valid, item_ids=(), views=valid.views.take(np.arange(0)))):
        with pytest.raises(RunError, match="neither the judge nor a judgement knows any. Try .*--method gws_joint"):
            form.fit(train, none, trainer_of(encoder, budget=3000.0))
    valid = sets_of(toy, "weak-validated")[1]
    unjudged = replace(valid, judgements=tuple(replace(one, gain=0.0) for one in valid.judgements))
    with pytest.raises(RunError, match="neither the judge nor a judgement knows any"):
        form.fit(train, unjudged, trainer_of(encoder, budget=3000.0))


def test_generations_are_as_many_as_a_record_holds():
    assert load_method("gws_joint", {"generations": "50"}, "weak")
    with pytest.raises(FtbenchError, match="generations is 51, expected at most 50: a record has room for 100 rankers"):
        load_method("gws_joint", {"generations": "51"}, "weak")
    with pytest.raises(FtbenchError, match="generations is 3, expected 1; for more: --method gws_self"):
        load_method(FORM, {"generations": "3"}, "weak")


def test_settings_are_checked_together():
    with pytest.raises(FtbenchError, match="3 problems"):
        load_method("gws_self", {"generations": "0", "temperature": "0", "drop": "1"}, "weak")
    with pytest.raises(FtbenchError, match="serve=rerank needs a second ranker"):
        load_method("gws_self", {"serve": "rerank"}, "weak")
    with pytest.raises(FtbenchError, match="log odds, which loss=pairwise cannot learn"):
        load_method("gws_self", {"mix": "posterior", "loss": "pairwise"}, "weak")


# --- which methods may label


def _file(folder, name, body):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(f"import numpy as np\nfrom ftbench import method\n\n\n{body}")
    return str(folder / f"{name}.py")


def test_an_embedding_labeller_that_gives_no_numbers_is_named(toy, encoder, tmp_path):  # noqa: F811
    body = """class Method(method.Method):
    def embed(self, views, embedder):
        found = np.random.default_rng(0).random((len(views), 8), dtype=np.float32)
        found[3] = np.nan
        return found
"""
    with pytest.raises(RunError, match=r"labeller dense gave the query '.*' a score that is NaN .*\(20 of 20"):
        fitted(FORM, toy, encoder, labeller=_file(tmp_path, "dense", body))


def test_a_labeller_that_is_not_trained_is_asked_to_fit_too(toy, encoder):  # noqa: F811
    assert fitted(FORM, toy, encoder, labeller="random", budget=600.0)[1].stages[0].told["labels"] == ["random"]


@pytest.mark.parametrize("key", ["labeller", "judge"])
def test_what_learns_from_labellers_is_none(key):
    with pytest.raises(FtbenchError, match=f"{key}=gws_self: gws_self learns from weak labels itself.*such as bm25"):
        load_method("gws_greedy", {key: "gws_self"}, "weak")


def test_what_calls_methods_that_judgements_tuned_is_none():
    with pytest.raises(FtbenchError, match="hybrid_rrf calls bm25 with settings that a search chose by judgements"):
        load_method(FORM, {"labeller": "hybrid_rrf"}, "weak")
    assert weak_labeller("bm25").config.k1 == 1.5  # which as it comes is one


@pytest.mark.parametrize("labeller", ["bm25 + mean_pooling", "mean_pooling:alignment_weight=0.1", "{file}"])
def test_a_judge_is_compared_by_file_and_settings(labeller):
    with pytest.raises(FtbenchError, match="judge=mean_pooling is a labeller, too"):
        load_method("gws_greedy", {"labeller": labeller.format(file=load_method("mean_pooling").path)}, "weak")
    assert load_method("gws_greedy", {"labeller": "mean_pooling:alignment_weight=0.2"}, "weak")


@pytest.mark.parametrize("form", ["gws_cross", "gws_joint", "gws_greedy"])
def test_two_rankers_are_two(form):
    with pytest.raises(FtbenchError, match="ranker and second are both mean_pooling.*--set second=late_interaction"):
        load_method(form, {"ranker": "mean_pooling", "second": "mean_pooling"}, "weak")
    assert load_method("gws_self", {"second": "factorized_transport"}, "weak")  # which has no second one


# --- what a record and kept labels depend on


SCORES = (
    "class Method(method.Method):\n    lexical = True\n\n    def score(self, probes, gallery):\n        return {}\n"
)


def test_all_that_labels_or_judges_is_a_part():
    """Once each, by file and settings; the judge where a form has a use for it."""
    settings = {"labeller": "bm25+bm25:title_only=true+ bm25", "ranker": "mean_pooling"}
    parts = [(part.name, getattr(part.config, "title_only", None)) for part in load_method(FORM, settings).parts]
    assert parts == [("bm25", False), ("bm25", True), ("mean_pooling", None)]
    names = [part.name for part in load_method("gws_greedy", {"judge": "single_view_clip"}).parts]
    assert names == ["bm25", "single_view_clip", "factorized_transport", "late_interaction"]


def test_two_files_of_one_name_are_told(tmp_path):
    one, two = (_file(tmp_path / folder, "own", SCORES.format(folder)) for folder in ("1", "2"))
    with pytest.raises(FtbenchError, match="both named own, by which a record tells methods apart. Rename one"):
        load_method(FORM, {"labeller": f"{one}+{two}"}, "weak")


def test_labels_and_records_depend_on_the_files_that_a_labeller_calls(toy, tmp_path):
    inner = _file(tmp_path, "inner", SCORES.format("1"))
    body = (
        SCORES.format("0") + f"\n    @property\n    def parts(self):\n        return (method.load_method({inner!r}),)\n"
    )
    outer, data = _file(tmp_path, "outer", body), sets_of(toy)[0]
    assert [part.name for part in load_method(FORM, {"labeller": outer}).parts][:2] == ["outer", "inner"]
    before = identity_of(weak_labeller(outer), None, data, 5)
    assert identity_of(weak_labeller(outer), None, data, 5) == before
    _file(tmp_path, "inner", SCORES.format("2"))
    assert identity_of(weak_labeller(outer), None, data, 5) != before
