"""Weak supervision: what rankers learn from whom, what is kept and what is served."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_trainer import encoder, trainer_of  # noqa: F401
from test_weak_batches import FORMS, labels_of, sets_of

from ftbench import latent
from ftbench.embedder import Embedder
from ftbench.encoders.base import weights_sha256
from ftbench.errors import FtbenchError, RunError
from ftbench.items import silent
from ftbench.labels import label, merged
from ftbench.method import load_method
from ftbench.views import text_probes, views_of
from ftbench.weak import reranked
from ftbench.weak.generations import Generations
from ftbench.weak.labellers import agreement, scores_of, shuffled

SMALL = {"ranker": "mean_pooling", "second": "late_interaction", "top": "5"}


def fitted(name, toy, encoder, folder=None, track="weak", budget=3000.0, **settings):  # noqa: F811
    method = load_method(name, SMALL | settings, track)
    trainer = replace(trainer_of(encoder, budget=budget), folder=folder)
    return method, method.fit(*sets_of(toy, track), trainer)


# --- forms and generations

TAUGHT = {
    "weak_supervision": [("ranker", ["bm25"])],
    "gws_self": [("ranker", ["bm25"]), ("ranker", ["ranker-1"]), ("ranker", ["ranker-2"])],
    "gws_cross": [
        ("ranker", ["bm25"]), ("second", ["bm25"]), ("ranker", ["second-1"]), ("second", ["ranker-1"]),
        ("ranker", ["second-2"]),
    ],
    "gws_joint": [("ranker", ["bm25"]), ("second", ["bm25"])]
    + [(role, ["ranker-1", "second-1"]) for role in ("ranker", "second")]
    + [("ranker", ["ranker-2", "second-2"])],
}  # fmt: skip


@pytest.mark.parametrize("name", TAUGHT)
def test_who_learns_from_whom(name, toy, encoder):  # noqa: F811
    _, trained = fitted(name, toy, encoder)
    assert [(stage.told["role"], stage.told["labels"]) for stage in trained.stages] == TAUGHT[name]
    assert trained.meter.spent <= 3000 * 1.1
    assert trained.steps == sum(stage.trained.steps for stage in trained.stages)
    assert trained.meter.image_passes == sum(stage.trained.meter.image_passes for stage in trained.stages)
    assert trained.model is [s.trained for s in trained.stages if s.told["role"] == "ranker"][-1].model


def test_greedy_adds_what_agrees_better_with_the_others_and_no_more(toy, encoder, monkeypatch):  # noqa: F811
    """And it learns from what it chose alone: the mean of their labels."""
    worth = {frozenset(["bm25"]): 0.5, frozenset(["ranker-1"]): 0.6, frozenset(["second-1"]): 0.2,
             frozenset(["ranker-1", "bm25"]): 0.7, frozenset(["ranker-1", "second-1"]): 0.65,
             frozenset(["ranker-1", "bm25", "second-1"]): 0.7}  # fmt: skip
    monkeypatch.setattr(Generations, "agreement", lambda self, chosen: worth[frozenset(o.name for o in chosen)])
    method, trained = fitted("gws_greedy", toy, encoder, generations="2")
    assert [stage.told["labels"] for stage in trained.stages[2:]] == [["ranker-1", "bm25"]]
    made = Generations(method, *sets_of(toy), trainer_of(encoder))
    made.weak = one = made._weak_of("bm25")
    other = replace(one, name="ranker-1", generation=1, train=shuffled(one.train, 1.0, 0))
    np.testing.assert_array_equal(made.labels([other]).scores, made.mean([(other.train, 1.0)], "train").scores)


def test_greedy_chooses_once_a_generation(toy, encoder, monkeypatch):  # noqa: F811
    asked = []
    monkeypatch.setattr(Generations, "agreement", lambda self, chosen: asked.append([o.name for o in chosen]) or 0.5)
    trained = fitted("gws_greedy", toy, encoder, generations="3")[1]
    pool, second = ["bm25", "ranker-1", "second-1"], ["ranker-2", "second-2"]
    assert [names for names in asked if len(names) == 1] == [[name] for name in (*pool, *pool, *second)]
    assert {tuple(stage.told["labels"]) for stage in trained.stages} == {("bm25",)}


def test_the_end_of_a_judge_s_list_is_worth_next_to_nothing(toy, encoder):  # noqa: F811
    """Cosines fall slowly: against the collection's lowest ranks 91 to 100 would agree nearly as well as the first."""
    made = Generations(load_method("gws_greedy", SMALL | {"top": "100"}, "weak"), *sets_of(toy), trainer_of(encoder))
    cosines = np.stack([np.random.default_rng(i).permutation(np.linspace(0.6, 0.1, 500)) for i in range(4)])
    made.judge = own = label("judge", "", lambda rows: cosines[rows], made.data["valid"].query_texts, 500, 100)
    one = made._weak_of("bm25")
    worse = replace(own, items=np.roll(own.items, 10, axis=1))
    assert made.agreement([replace(one, valid=own)]) == pytest.approx(1.0)
    assert made.agreement([replace(one, valid=worse)]) < 0.1


def test_agreement_is_with_a_judge_from_whom_nobody_learns(toy, encoder):  # noqa: F811
    method = load_method("gws_greedy", SMALL | {"judge": "bm25:title_only=true", "labeller": "mean_pooling"}, "weak")
    made = Generations(method, *sets_of(toy), trainer_of(encoder))
    made.weak = one = made._weak_of("mean_pooling")
    made.judge = made._judge().valid
    same = replace(one, name="same", valid=made.judge)  # agrees with itself wholly
    worse = replace(one, name="worse", valid=shuffled(made.judge, 1.0, 0))
    assert made.agreement([same]) == pytest.approx(1.0)
    assert 0 <= made.agreement([worse]) < made.agreement([same, worse]) <= 1


def test_a_judge_is_no_labeller_and_greedy_labels_are_no_posterior():
    with pytest.raises(FtbenchError, match="judge=bm25 is a labeller, too.*--set judge="):
        load_method("gws_greedy", {"judge": "bm25"}, "weak")
    with pytest.raises(FtbenchError, match="judge=random.bm25: unknown method"):  # one labeller judges, not several
        load_method("gws_greedy", {"judge": "random+bm25"}, "weak")
    with pytest.raises(FtbenchError, match="expected mix=mean"):
        load_method("gws_greedy", {"mix": "posterior"}, "weak")
    assert load_method("gws_self", {"judge": "bm25", "mix": "posterior"}, "weak")  # which has no use for a judge


def test_with_judgements_agreement_is_with_them(toy, encoder):  # noqa: F811
    method = load_method("gws_greedy", SMALL, "weak-validated")
    made = Generations(method, *sets_of(toy, "weak-validated"), trainer_of(encoder))
    assert made._judge() is None
    made.weak = made._weak_of("bm25")
    ranks = made.mean([(made.weak.valid, 1.0)], "valid").items
    valid = made.data["valid"]
    wanted = {one.query_id: one.item_id for one in valid.judgements}
    expected = []
    for query, row in zip(valid.query_ids, ranks.tolist(), strict=True):
        place = [valid.item_ids[i] if i >= 0 else "" for i in row].index(wanted[query]) + 1
        expected.append(1 / np.log2(place + 1))
    assert made.agreement([made.weak]) == pytest.approx(np.mean(expected))


def test_it_stops_where_nothing_improves_and_serves_the_generation_before(toy, encoder, monkeypatch):  # noqa: F811
    values = iter([0.3, 0.5, 0.4, 0.9])
    monkeypatch.setattr(Generations, "_criterion", lambda *_: next(values))
    method, trained = fitted("gws_self", toy, encoder, generations="4", stop="true", budget=5000.0)
    assert len(trained.stages) == 3
    assert trained.model is trained.stages[1].trained.model and method.made["ranker"].name == "ranker-2"


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_been_stopped(toy, encoder, tmp_path, monkeypatch):  # noqa: F811
    whole = fitted("gws_self", toy, encoder, tmp_path / "whole")[1]
    fit, calls = load_method("mean_pooling", track="weak").__class__.fit, []

    def stopping(self, *given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(self, *given)

    monkeypatch.setattr("ftbench.method.TwoTower.fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        fitted("gws_self", toy, encoder, tmp_path / "own")
    left = {p.name for p in (tmp_path / "own").iterdir()}
    assert {"ranker-1.json", "ranker-1.safetensors", "ranker-1-train.npz", "weak-bm25-train.npz"} <= left
    assert "ranker-2.json" not in left
    calls += [1] * 2
    _, again = fitted("gws_self", toy, encoder, tmp_path / "own")
    assert len(calls) == 4 + 2
    assert weights_sha256(again.model) == weights_sha256(whole.model)
    assert again.meter == whole.meter and again.steps == whole.steps
    assert [s.told for s in again.stages] == [s.told for s in whole.stages]


def test_what_a_ranker_learns_beside_the_towers_is_kept_too(toy, encoder, tmp_path, monkeypatch):  # noqa: F811
    """And nothing is trained again."""
    settings = {"budget": 600.0, "ranker": "gated_fusion"}
    one, whole = fitted("weak_supervision", toy, encoder, tmp_path, **settings)
    monkeypatch.setattr("ftbench.method.TwoTower.fit", None)
    two, again = fitted("weak_supervision", toy, encoder, tmp_path, **settings)
    assert weights_sha256(again.model) == weights_sha256(whole.model) and again.meter == whole.meter
    own, kept = (list(method.made["ranker"].method.learned()) for method in (one, two))
    assert any(value.any() for value in own)
    torch.testing.assert_close(kept, own, rtol=0, atol=0)


@pytest.mark.parametrize(("suffix", "old", "new"), [
    (".safetensors", None, b"no"), (".json", None, b"{}"), (".json", b'"curve": [[', b'"curve": [[null, '),
    (".json", b'"image_flops"', b'"flips"'), (".json", b'"adaptations": []', b'"adaptations": 1'),
])  # fmt: skip
def test_a_damaged_checkpoint_is_made_again(suffix, old, new, toy, encoder, tmp_path):  # noqa: F811
    whole = fitted("weak_supervision", toy, encoder, tmp_path, budget=300.0)[1]
    path = tmp_path / f"ranker-1{suffix}"
    before = path.read_bytes()
    path.write_bytes(before.replace(old, new) if old else new)
    assert path.read_bytes() != before
    again = fitted("weak_supervision", toy, encoder, tmp_path, budget=300.0)[1]
    assert weights_sha256(again.model) == weights_sha256(whole.model) and again.curve == whole.curve


def test_a_later_generation_begins_with_the_weights_before_or_the_encoder_s_own(toy, encoder, monkeypatch):  # noqa: F811
    begun, fit = [], load_method("mean_pooling", track="weak").__class__.fit

    def watched(self, train, valid, trainer):
        begun.append(trainer.initial)
        return fit(self, train, valid, trainer)

    monkeypatch.setattr("ftbench.method.TwoTower.fit", watched)
    trained = fitted("gws_self", toy, encoder, generations="2", start="previous")[1]
    first = trained.stages[0].trained.model.state_dict()
    assert begun[0] is None and all(torch.equal(begun[1][name], value) for name, value in first.items())
    fitted("gws_self", toy, encoder, generations="2", start="foundation")
    assert begun[2:] == [None, None]


def test_a_later_generation_may_go_on_from_the_weights_before(toy, encoder):  # noqa: F811
    models = [fitted("gws_self", toy, encoder, start=start)[1].model for start in ("foundation", "previous")]
    assert weights_sha256(models[0]) != weights_sha256(models[1])


@pytest.mark.parametrize("option", [{"loss": "pairwise"}, {"loss": "regression"}, {"mix": "posterior"},
                                    {"importance": "nqc"}, {"importance": "clarity", "drop": "0.5"},
                                    {"labeller": "bm25+mean_pooling"}, {"shuffled": "0.5"},
                                    {"labeller": "bm25:title_only=true"}])  # fmt: skip
def test_every_option_trains_something_else(option, toy, encoder):  # noqa: F811
    plain = fitted("gws_self", toy, encoder, generations="2")[1]
    other = fitted("gws_self", toy, encoder, generations="2", **option)[1]
    assert all(np.isfinite(loss) for _, loss in other.curve)
    assert weights_sha256(other.model) != weights_sha256(plain.model)


@pytest.mark.parametrize(
    ("name", "labeller", "budget"),
    [*((name, "bm25", 3000.0) for name in FORMS), ("gws_self", "bm25+mean_pooling", 3000.0),
     ("gws_greedy", "bm25+mean_pooling", 6000.0)],
)  # fmt: skip
def test_all_labelling_is_paid_from_the_budget(name, labeller, budget, toy, encoder):  # noqa: F811
    more = {} if name == "weak_supervision" else {"generations": "2"}
    trained = fitted(name, toy, encoder, budget=budget, labeller=labeller, judge="single_view_clip", **more)[1]
    assert 0.85 * budget < trained.meter.spent <= 1.05 * budget


def test_what_is_observed_is_of_the_training_queries(toy, encoder):  # noqa: F811
    """By hand from the ranker's own scores and the weak labels."""
    method, trained = fitted("weak_supervision", toy, encoder)
    made = Generations(method, *sets_of(toy), trainer_of(encoder))
    weak = made._weak_of("bm25").train
    scores = scores_of(trained.stages[0].method, trained, made.data["train"], made.trainer)(slice(0, len(weak)))
    labels = weak.normalised().of(np.arange(len(weak)), np.arange(scores.shape[1]))
    found = []
    for own, label_ in zip(scores, labels, strict=True):
        logs = own - np.log(np.exp(own - own.max()).sum()) - own.max()
        found.append(np.log(np.exp(logs + 5.0 * label_).sum()))
    assert trained.stages[0].told["observed"] == pytest.approx(np.mean(np.array(found)[weak.labelled]), abs=1e-4)


def test_labels_of_the_posterior_are_those_of_the_model(toy, encoder):  # noqa: F811
    """With lists of all items, so that nothing is cut off: softmax of what a generation learns from is the E-step."""
    train, _ = sets_of(toy)
    size = len(train.item_ids)
    settings = {"generations": "1", "mix": "posterior", "strength": "2.5", "top": str(size)}
    method, trained = fitted("gws_self", toy, encoder, budget=300.0, **settings)
    made = Generations(method, *sets_of(toy), trainer_of(encoder))
    made.weak, first = made._weak_of("bm25"), trained.stages[0]
    scores = scores_of(first.method, first.trained, train, made.trainer)
    own = made._lists("ranker-1", first.method, first.trained, "train", scores)
    found = made.labels([replace(made.weak, name="ranker-1", generation=1, train=own)])
    everything = np.arange(len(own)), np.arange(size)
    weak = torch.from_numpy(made.weak.train.normalised().of(*everything))
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    asked, items = (first.method.embed(views, embedder) for views in (text_probes(train.query_texts), train.views))
    logits = trained.model.logit_scale.detach() * torch.from_numpy(asked @ items.T)
    expected = latent.posterior(logits, weak, 2.5)
    torch.testing.assert_close(torch.from_numpy(found.of(*everything)).softmax(1), expected, atol=1e-5, rtol=1e-4)


def test_a_validation_split_without_items_labels_nothing(toy, encoder):  # noqa: F811
    train, valid = sets_of(toy)
    none = replace(valid, item_ids=(), views=valid.views.take(np.arange(0)))
    method = load_method("gws_self", SMALL | {"generations": "2", "labeller": "bm25+mean_pooling"}, "weak")
    trained = method.fit(train, none, trainer_of(encoder, budget=1000.0))
    assert [stage.told["criterion"] for stage in trained.stages] == [None, None]


def test_a_catalogue_without_validation_queries_is_trained_on_but_nothing_is_stopped_by_it(toy, encoder):  # noqa: F811
    train, valid = sets_of(toy)
    none = replace(valid, query_ids=(), query_texts=())
    method = load_method("gws_self", SMALL | {"generations": "2"}, "weak")
    trained = method.fit(train, none, trainer_of(encoder, budget=3000.0))
    assert [stage.told["criterion"] for stage in trained.stages] == [None, None]
    method = load_method("gws_self", SMALL | {"generations": "2", "stop": "true"}, "weak")
    with pytest.raises(RunError, match="the labeller labels none of them. Leave it out: --set stop=false"):
        method.fit(train, none, trainer_of(encoder, budget=3000.0))


# --- what is served


def test_reranking_keeps_the_candidates_first_and_the_rest_in_order():
    first = np.array([[5.0, 4, 3, 2, 1], [1, 1, 1, 2, 0]])
    second = np.array([[1.0, 9, 5, 7, 8], [3, 2, 1, 0, 9]])
    assert np.argsort(-reranked(first, second, 3, 1.0)[0], kind="stable").tolist() == [1, 2, 0, 3, 4]
    # three items tie for the places 2 to 4: all of them are candidates
    assert np.argsort(-reranked(first, second, 2, 1.0)[1], kind="stable").tolist() == [0, 1, 2, 3, 4]
    assert (reranked(first, second, 3, 0.0) == reranked(first, first, 3, 0.7)).all()


def test_a_candidate_has_a_mean_of_both_scores_from_0_to_1():
    """Candidates 0 to 2, of the first 1, 0.5, 0 from lowest to highest, of the second 0, 1, 0.5."""
    first, second = np.array([[5.0, 4, 3, -9]]), np.array([[1.0, 9, 5, 99]])
    assert reranked(first, second, 3, 0.5).tolist() == [[-1, 0, -2, -3]]  # 0.5, 0.75, 0.25
    assert reranked(first, second, 3, 0.2).tolist() == [[0, -1, -2, -3]]  # 0.8, 0.6, 0.1
    assert reranked(first, np.ones((1, 4)), 3, 0.9).tolist() == [[0, -1, -2, -3]]  # a second that says nothing


def test_the_second_ranker_reorders(toy, encoder):  # noqa: F811
    method, trained = fitted("gws_cross", toy, encoder, generations="1", serve="rerank", candidates="3")
    embedder = Embedder(trained, encoder, torch.device("cpu"), silent)
    views, probes = views_of(toy, toy.rows("test")), text_probes(["red lamp 30", "room 31"])
    found = method.score(probes, views, embedder)
    first = method.rankers["ranker"].embed(probes, embedder) @ method.rankers["ranker"].embed(views, embedder).T
    for row, own in zip(found, first, strict=True):
        assert set(np.argsort(-row)[:3]) == set(np.argsort(-own)[:3])
        assert np.argsort(-row, kind="stable")[3:].tolist() == np.argsort(-own, kind="stable")[3:].tolist()


# --- labels of several, worse labels, agreement


def test_lists_are_added_by_their_shares():
    a = label("a", "1", lambda rows: np.array([[4.0, 2, 0]])[rows], ["q"], 3, 3)
    b = label("b", "2", lambda rows: np.array([[0.0, 5, 1]])[rows], ["q"], 3, 2)
    both = merged([a, b], [0.5, 0.25], ["q"], 2)
    assert both.labeller == "a + b"
    assert both.items.tolist() == [[1, 0]] and both.scores.tolist() == [[2 * 0.5 + 5 * 0.25 - 0.25, 2 - 0.25]]
    assert merged([a, b], [0.5, 0.3], ["q"], 2).identity != both.identity


def test_agreement_by_hand():
    weak = label("weak", "", lambda rows: np.array([[3.0, 0, 1, 0], [1, 1, 1, 1]])[rows], ["q", "r"], 4, 4)
    own = label("own", "", lambda rows: np.array([[0.0, 1, 3, 2], [4, 3, 2, 1]])[rows], ["q", "r"], 4, 3)
    # own ranks items 2 3 1: gains 1 0 0 of an ideal 3 1
    found = agreement(own, weak)
    assert found[0] == pytest.approx(1 / (3 + 1 / np.log2(3))) and np.isnan(found[1])


def test_shuffling_exchanges_the_lists_of_a_share_of_the_queries():
    labels = labels_of(queries=100)
    found = shuffled(labels, 0.25, 0)
    moved = (found.items != labels.items).any(axis=1)
    assert 20 <= moved.sum() <= 25 and found.identity != labels.identity
    assert sorted(map(tuple, found.items.tolist())) == sorted(map(tuple, labels.items.tolist()))
    np.testing.assert_array_equal(shuffled(labels, 0.0, 0).items, labels.items)
