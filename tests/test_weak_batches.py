"""Weak supervision: what the harness hands over to a method, and the batches that it learns from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_trainer import encoder  # noqa: F401

from ftbench import losses
from ftbench.batches import Targets, batches_of
from ftbench.errors import RunError
from ftbench.labels import WeakLabels, label
from ftbench.method import load_method
from ftbench.request import Request, check
from ftbench.settings import TrainerConfig
from ftbench.task import load_task, training_sets

FORMS = ("weak_supervision", "gws_self", "gws_cross", "gws_joint", "gws_greedy")


def sets_of(toy, track="weak"):
    return training_sets(load_task("query2item", "toy"), toy, track)


# --- what is in reach


def test_places_and_names_of_queries_tell_nothing_of_items(toy):
    """Sources list queries item by item, and name them after items."""
    plain = [query.text for query in toy.queries("train")]
    for track in ("weak", "weak-validated"):
        train, valid = sets_of(toy, track)
        assert sorted(train.query_texts) == sorted(plain)
        places = [int(text.rpartition(" ")[2]) for text in train.query_texts]  # the item that each was made from
        by_name = sorted(places, key=str)
        assert abs(np.corrcoef(np.arange(20), places)[0, 1]) < 0.5 and places not in (sorted(places), by_name)
        assert train.query_ids == () and bool(valid.query_ids) == (track == "weak-validated")


def test_the_weak_track_hands_over_queries_and_nothing_that_judges_them(toy):
    for track, judged in (("weak", False), ("weak-validated", True)):
        train, valid = sets_of(toy, track)
        assert len(train.query_texts) == 20 and len(valid.query_texts) == 4
        assert not len(train.interactions) and not len(valid.interactions)
        assert not train.judgements and bool(valid.judgements) == judged
    assert len(sets_of(toy, "supervised")[0].interactions)


def test_forms_are_of_the_weak_track_and_others_are_not():
    for name in FORMS:
        assert check(Request(name, "query2item", "studio")).track == "weak"
        with pytest.raises(RunError, match=f"{name} is made for the weak track, and supervised was given"):
            check(Request(name, "query2item", "studio", track="supervised"))
    with pytest.raises(RunError, match="Try: --method weak_supervision --set ranker=mean_pooling"):
        check(Request("mean_pooling", "query2item", "studio", track="weak"))


# --- batches of weak labels


def labels_of(seed=0, queries=30, items=40, k=6):
    scores = np.random.default_rng(seed).normal(size=(queries, items))
    return label("random", "", lambda rows: scores[rows], ["q"] * queries, items, k).normalised()


def test_batches_hold_what_the_labels_say(toy):
    train, _ = sets_of(toy)
    labels = labels_of(queries=20, items=20)
    weights = np.where(np.arange(20) % 4 == 0, 0.0, 1.5).astype(np.float32)
    data = replace(train, targets=Targets(labels, weights, 0.2, losses.listwise_cross_entropy))
    stream = batches_of(data, TrainerConfig(batch_size=8), 3)
    seen, sizes = set(), set()
    for _ in range(20):
        batch = next(stream)
        assert 2 <= len(set(batch.items.tolist())) == len(batch.items) <= 8
        sizes.add(len(batch.items))
        for i, item in enumerate(batch.items):
            for k, query in enumerate(batch.queries[i]):
                assert weights[query] and item in labels.items[query]
                seen.add(int(query))
                own = dict(zip(labels.items[query].tolist(), labels.scores[query].tolist(), strict=True))
                assert batch.labels[i, k].tolist() == [own.get(int(j), 0.0) for j in batch.items]
                assert batch.weights[i, k] == 1.5
    assert seen == set(np.flatnonzero(weights).tolist()) and 8 in sizes
    again = batches_of(data, TrainerConfig(batch_size=8), 3)
    np.testing.assert_array_equal(next(again).items, next(batches_of(data, TrainerConfig(batch_size=8), 3)).items)


def test_items_enter_a_batch_as_often_as_labels_name_them_high(toy):
    """One query, one item of label 1 and many of label 0: at a low temperature the first is in every batch."""
    train, _ = sets_of(toy)
    scores = np.zeros((20, 20))
    scores[:, 1:] = 1e-3
    scores[np.arange(20), np.arange(20)] = 1.0
    labels = label("own", "", lambda rows: scores[rows], ["q"] * 20, 20, 20).normalised()
    data = replace(train, targets=Targets(labels, np.ones(20), 0.05, losses.listwise_cross_entropy))
    batch = next(batches_of(data, TrainerConfig(batch_size=8, queries_per_item=1), 0))
    assert (batch.queries[:, 0] == batch.items).mean() > 0.7


def test_too_few_labelled_items_are_said(toy):
    train, _ = sets_of(toy)
    labels = WeakLabels("one", "", np.zeros((20, 1), dtype=np.int64), np.ones((20, 1), np.float32),
                        np.ones(20, np.float32), 20)  # fmt: skip
    data = replace(train, targets=Targets(labels, np.ones(20), 1.0, losses.listwise_cross_entropy))
    with pytest.raises(RunError, match="at least 2 items; the labeller names fewer"):
        next(batches_of(data, TrainerConfig(), 0))


def test_the_loss_is_the_ranking_loss_of_every_query_by_its_weight(toy, encoder):  # noqa: F811
    train, _ = sets_of(toy)
    labels = labels_of(queries=20, items=20)
    weights = np.linspace(0.5, 1.5, 20).astype(np.float32)

    def loss(logits, scale, own):
        return losses.listwise_cross_entropy(logits, own, 0.3)

    data = replace(train, targets=Targets(labels, weights, 0.3, loss))
    batch = next(batches_of(data, TrainerConfig(batch_size=6), 1))
    vectors = torch.nn.functional.normalize(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    items = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), dim=1)

    class Towers:
        scale = 7.0

        @staticmethod
        def queries(ids):
            return vectors[torch.from_numpy(ids)]

    found = load_method("mean_pooling", track="weak").query_loss(batch, Towers, items)
    total = []
    for i in range(6):
        for k in range(batch.queries.shape[1]):
            query = batch.queries[i, k]
            logits = torch.stack([7.0 * (vectors[query] * item).sum() for item in items])[None]
            own = torch.from_numpy(labels.of(np.array([query]), batch.items))
            total.append(weights[query] * loss(logits, 7.0, own)[0])
    torch.testing.assert_close(found, torch.stack(total).mean())


def test_the_last_batch_of_a_pass_is_smaller_and_no_catalogue_is_too_small(toy):
    train, _ = sets_of(toy)
    data = replace(train, targets=Targets(labels_of(queries=20, items=20), np.ones(20), 0.2, losses.pairwise_logistic))
    stream = batches_of(data, TrainerConfig(batch_size=64), 0)
    assert 2 <= len(next(stream).items) <= 20 and len(next(stream).items) >= 2


def test_a_batch_asks_the_query_that_brought_its_items(toy):
    train, _ = sets_of(toy)
    labels = labels_of(queries=20, items=20)
    data = replace(train, targets=Targets(labels, np.ones(20), 0.2, losses.pairwise_logistic))
    batch = next(batches_of(data, TrainerConfig(batch_size=8, queries_per_item=1), 0))
    named = [sum(item in labels.items[query] for item in batch.items) for query in batch.queries[:, 0]]
    assert max(named) >= 4
