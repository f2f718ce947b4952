"""Tasks and trials: definitions are checked whole, probes are left out of what they search, test data stays away."""

import dataclasses

import numpy as np
import pytest
from conftest import Toy

from ftbench.errors import FtbenchError
from ftbench.items import Item, View, silent
from ftbench.method import unit
from ftbench.store import prepare
from ftbench.task import Pair, load_task, parse_task, task_names, training_sets, trials
from ftbench.views import near_duplicates


def test_both_tasks_load():
    assert task_names() == ["cross_view", "query2item"]
    assert load_task("query2item", "studio").gallery == "test"
    assert load_task("query2item", "magento-luma").gallery == "all"
    assert len(load_task("cross_view", "studio").pairs) == 5


def test_unknown_task_lists_near_matches():
    with pytest.raises(FtbenchError, match="Did you mean 'query2item'"):
        load_task("query2items", "studio")


def test_all_problems_of_a_file_are_reported_together():
    text = 'name = "x"\nkind = "queer"\ntrack = 3\nmeasures = ["ndcg@10"]\nheadline = "recall@10"\nspeed = 1\n'
    with pytest.raises(FtbenchError) as caught:
        parse_task(text, "x", "studio")
    for part in ("title is missing", "kind is 'queer'", "track is 3", "headline 'recall@10'", "'speed'"):
        assert part in str(caught.value)


def test_definition_hash_changes_with_the_definition():
    task = load_task("query2item", "studio")
    assert task.definition_sha256 == load_task("query2item", "studio").definition_sha256
    assert task.definition_sha256 != dataclasses.replace(task, relevant_from=1.0).definition_sha256


def _colour_means(views):
    """A stand-in for a method: an item is the unit mean of its images' pixels."""
    size = 48 * 48 * 3
    vectors = np.zeros((len(views), size), dtype=np.float32)
    for row, ids in enumerate(views.images):
        for pixels in views.assets.pixels(ids[ids >= 0]):
            vectors[row] += unit(pixels.astype(np.float32).reshape(-1) - 127.5)
    return unit(vectors)


def _hits_at_1(trial):
    scores = _colour_means(trial.probes) @ _colour_means(trial.gallery).T
    found = [trial.item_ids[i] for i in scores.argmax(axis=1)]
    return np.mean([a == b for a, b in zip(found, trial.query_ids, strict=True)])


def _only(task, probe, gallery):
    return dataclasses.replace(task, pairs=(Pair("p", "p", probe, gallery),))


def test_the_probe_is_not_inside_the_item_it_searches(toy):
    trial = trials(_only(load_task("cross_view", "toy"), "auxiliary_image", "item"), toy)[0]
    probes = set(trial.probes.images[:, 0].tolist())
    assert probes and not probes & set(trial.gallery.images.reshape(-1).tolist())
    assert set(trial.query_ids) <= set(trial.item_ids)


def test_leaving_the_probe_in_would_inflate_the_score(toy, monkeypatch):
    """Random pictures say nothing of each other: any skill here is the probe found inside its own item."""
    task = _only(load_task("cross_view", "toy"), "auxiliary_image", "item")
    honest = _hits_at_1(trials(task, toy)[0])
    monkeypatch.setattr("ftbench.task.leave_out", lambda views, kind, assets: views)
    assert _hits_at_1(trials(task, toy)[0]) == 1.0
    assert honest < 0.5


def test_a_planted_duplicate_of_the_probe_is_left_out_too(tmp_path, monkeypatch):
    rng = np.random.Generator(np.random.Philox(key=[9, 9]))
    items = []
    for i in range(12):
        main, back = (rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(2))
        views = (View("image", "main", "primary", main), View("image", "back", "auxiliary", back),
                 View("image", "back again", "auxiliary", back.copy(), probe=False),
                 View("text", "title", "primary", f"lamp {i}"))  # fmt: skip
        items.append(Item(f"twin{i}", f"twin{i}", "test", "lamp", views))
    catalogue = prepare(Toy(items), silent, tmp_path)
    task = _only(load_task("cross_view", "toy"), "auxiliary_image", "item")

    def twins(trial):
        scores = _colour_means(trial.probes) @ _colour_means(trial.gallery).T
        rows = [row for row, name in enumerate(trial.query_ids) if name.startswith("twin")]
        return np.mean([trial.item_ids[scores[row].argmax()] == trial.query_ids[row] for row in rows])

    honest = twins(trials(task, catalogue)[0])
    monkeypatch.setattr("ftbench.task.near_duplicates", lambda assets, ids: set(ids.tolist()))
    assert twins(trials(task, catalogue)[0]) == 1.0, "with exclusion by asset id alone the duplicate gives it away"
    assert honest < 0.5
    assert near_duplicates


def test_gallery_kinds(toy):
    base = load_task("cross_view", "toy")
    title = trials(_only(base, "auxiliary_image", "title"), toy)[0]
    assert (title.gallery.images < 0).all() and (title.gallery.texts >= 0).sum() == len(title.item_ids)
    primary = trials(_only(base, "title", "primary_image"), toy)[0]
    assert primary.gallery.images.shape[1] == 1 and (primary.gallery.texts < 0).all()
    images = trials(_only(base, "description", "images"), toy)[0]
    assert (images.gallery.texts < 0).all() and (images.gallery.images >= 0).sum() > len(images.item_ids)
    assert images.needs == {"image", "text"} and title.needs == {"image", "text"}


def test_query_trial(toy):
    trial = trials(load_task("query2item", "studio"), toy)[0]
    assert len(trial.query_ids) == 16 and len(trial.item_ids) == 16
    assert trial.gains["q25"] == {"item25": 3.0}
    assert trial.probes.assets.texts[trial.probes.texts[0, 0]] == "lamp for room 24"


def _reachable(thing, seen=None):
    """Every string that can be reached from an object through containers and attributes."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, dict):
        for pair in thing.items():
            yield from _reachable(pair, seen)
    elif isinstance(thing, (list, tuple, set, frozenset)):
        for part in thing:
            yield from _reachable(part, seen)
    elif hasattr(thing, "__dict__"):
        yield from _reachable(vars(thing), seen)
    elif hasattr(thing, "__slots__"):
        yield from _reachable([getattr(thing, name) for name in thing.__slots__], seen)


@pytest.mark.parametrize("track", ["aligned", "supervised", "zero-shot"])
def test_nothing_of_the_test_split_is_reachable_from_fit(toy, track):
    sets = training_sets(load_task("query2item", "toy"), toy, track)
    strings = set(_reachable(list(sets)))
    assert "red lamp 3" in strings, "the walk must reach what is there"
    for i in range(24, 40):
        assert not strings & {f"q{i}", f"item{i:02d}", f"lamp for room {i}", f"red lamp {i}"}


def test_interactions_and_judgements_only_where_the_track_may_use_them(toy):
    task = load_task("query2item", "toy")
    train, valid = training_sets(task, toy, "supervised")
    assert len(train.interactions) == 20 and len(valid.judgements) == 4 and not train.judgements
    for part in training_sets(task, toy, "aligned"):
        assert len(part.interactions) == 0 and not part.query_texts and not part.judgements
