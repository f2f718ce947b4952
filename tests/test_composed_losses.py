"""Whole losses of methods that add up several terms, against loops over items, views, draws and queries."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_contrastive_methods import Given
from test_m3g import naive_gap

from ftbench.batches import Batch
from ftbench.method import load_method
from ftbench.transport import sample_view
from ftbench.views import Views

SCALE, WIDTH, ITEMS = 3.0, 6, range(6)
IMAGES = np.array(
    [[0, 1, 2, 3], [4, -1, -1, -1], [5, 6, -1, 7], [-1, -1, -1, -1], [8, 9, 10, -1], [11, 12, -1, -1]]
)  # the fourth item has none
TEXTS = np.array([[0, 1, 2], [3, 4, -1], [5, -1, -1], [6, 7, -1], [8, 9, 10], [11, -1, 12]])
BOTH = [0, 1, 2, 4, 5]  # the items that enter an image-text loss
QUERIES = np.array([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]])
KINDS = {"image": IMAGES, "text": TEXTS}


def begun(name, track, **settings):
    """A method that has begun, on towers whose vectors are known."""
    towers = Given(SCALE, WIDTH)
    method = load_method(name, {key: str(value) for key, value in settings.items()}, track)
    with torch.no_grad():
        method.begin(SimpleNamespace(views=SimpleNamespace(images=IMAGES, texts=TEXTS)), towers)
    return method, towers


def asked(track):
    """All items as a batch; with queries, the second query of the first item is one of the third's, too."""
    both = torch.tensor([i in BOTH for i in ITEMS])
    if track == "aligned":
        return Batch(np.arange(len(both)), both)
    same = torch.eye(len(both), dtype=torch.bool)[:, None].repeat(1, 2, 1)
    same[0, 1, 2] = True
    return Batch(np.arange(len(both)), both, QUERIES, same)


def views_of(towers, kind, i):
    """{column: vector} of the views that an item has."""
    table = towers.tables[kind + "s"]
    return {m: table[asset] for m, asset in enumerate(KINDS[kind][i]) if asset >= 0}


def shares_of(columns, share):
    """{column: weight}: the primary's share, the others alike; all of it where there is one view."""
    if share is None or len(columns) == 1:
        return dict.fromkeys(columns, 1 / len(columns)) if columns else {}
    return {m: share if m == 0 else (1 - share) / (len(columns) - 1) for m in columns}


def total(weights, vectors):
    """The weighted sum of an item's views; zeros where it has none."""
    return sum((weights[m] * vectors[m] for m in weights), torch.zeros(WIDTH))


def unit(vector):
    return vector / vector.norm() if vector.norm() > 1e-6 else vector


def item_of(image, text):
    return unit(unit(image) + unit(text))


def surprise(own, rivals):
    """-log of the share of `own` among the rivals, which it is one of."""
    return math.log(sum(math.exp(SCALE * float(r)) for r in rivals)) - SCALE * float(own)


def both_ways(x, y):
    """The mean over probes of either side of how surprising the own partner is."""
    forth = [surprise(x[i] @ y[i], [x[i] @ v for v in y]) for i in range(len(x))]
    back = [surprise(x[i] @ y[i], [v @ y[i] for v in x]) for i in range(len(x))]
    return (sum(forth) + sum(back)) / (2 * len(x))


def of_queries(towers, items, batch):
    """The mean over items and their queries; an item that has the query, too, is no rival."""
    terms = []
    for i in ITEMS:
        for k in range(QUERIES.shape[1]):
            query = towers.tables["queries"][QUERIES[i, k]]
            rivals = [query @ items[j] for j in ITEMS if j == i or not batch.same[i, k, j]]
            terms.append(surprise(query @ items[i], rivals))
    return sum(terms) / len(terms)


def drawn_columns(chances, generator):
    """One auxiliary column of each item, None where it has none; chances: {column: chance} of each item."""
    table = torch.zeros(len(chances), 4)
    for i, own in enumerate(chances):
        for m, chance in own.items():
            table[i, m] = chance if m else 0.0
    return [c if c >= 0 else None for c in sample_view(table, generator).tolist()]


# weighted fields


@pytest.mark.parametrize("track", ["supervised", "aligned"])
def test_gcl_s_field_averages_meet_each_other_and_the_queries(track):
    method, towers = begun("gcl", track, image_share=0.3, primary_image_share=0.4, primary_text_share=0.6,
                           alignment_weight=0.5)  # fmt: skip
    batch = asked(track)
    found = float(method.loss(batch, towers, torch.Generator()))
    sides = [
        [total(shares_of(own, share), own) for own in (views_of(towers, kind, i) for i in ITEMS)]
        for kind, share in (("image", 0.4), ("text", 0.6))
    ]
    expected = both_ways(*([unit(side[i]) for i in BOTH] for side in sides))
    if track == "supervised":
        items = [unit(0.3 * image + 0.7 * text) for image, text in zip(*sides, strict=True)]
        expected = of_queries(towers, items, batch) + 0.5 * expected
    assert found == pytest.approx(expected, rel=1e-5)


def test_gcl_s_item_vectors_are_weighted_fields():
    """At inference, too; an item without images is its texts alone."""
    method, towers = begun("gcl", "aligned", image_share=0.3, primary_image_share=0.4, primary_text_share=0.6)

    def vectors(views, kind):
        ids = views.images if kind == "image" else views.texts
        return np.where((ids >= 0)[..., None], towers.tables[kind + "s"].numpy()[ids], np.float32(0))

    embedder = SimpleNamespace(vectors=vectors, device=torch.device("cpu"))
    found = method.embed(Views(None, IMAGES, TEXTS), embedder)
    for i in ITEMS:
        image, text = (
            total(shares_of(own, share), own)
            for own, share in ((views_of(towers, "image", i), 0.4), (views_of(towers, "text", i), 0.6))
        )
        np.testing.assert_allclose(found[i], unit(0.3 * image + 0.7 * text), atol=1e-5)


# the matching gap


def test_m3g_adds_the_weighted_gap_to_the_query_loss_on_the_sampled_mean():
    """Groups of three items and the remaining two. The gap is of the sampled views, or of primaries in their place."""
    share, epsilon = 0.4, 0.5
    method, towers = begun("m3g", "supervised", primary_share=share, epsilon=epsilon, alignment_weight=0.3, group=3,
                           iterations=1000)  # fmt: skip
    batch = asked("supervised")
    found = float(method.loss(batch, towers, torch.Generator().manual_seed(7)))

    generator, sides, tuples = torch.Generator().manual_seed(7), [], [[] for _ in ITEMS]
    for kind in KINDS:
        owned = [views_of(towers, kind, i) for i in ITEMS]
        columns = drawn_columns([shares_of(own, share) for own in owned], generator)
        side = []
        for i, (own, column) in enumerate(zip(owned, columns, strict=True)):
            primary = own.get(0, torch.zeros(WIDTH))
            auxiliary = primary if column is None else own[column]
            side.append(share * primary + (1 - share) * auxiliary)
            tuples[i] += [primary, auxiliary]
        sides.append(side)
    items = [item_of(image, text) for image, text in zip(*sides, strict=True)]
    gaps = 0.0
    for group in (BOTH[:3], BOTH[3:]):
        views = torch.stack([torch.stack([tuples[i][p] for i in group]) for p in range(4)]).double()  # (k, n, d)
        gaps += naive_gap(views, epsilon) * len(group) / len(BOTH)
    assert gaps > 0.1
    assert found == pytest.approx(of_queries(towers, items, batch) + 0.3 * gaps, rel=1e-5)


# transport


def naive_transport(products, a, b, epsilon, sweeps=2000):
    """<P, K> - epsilon KL(P || a b^T) of the plan P that Sinkhorn's sweeps end at, entry by entry; K (M, N), lists."""
    u, v = [1.0] * len(a), [1.0] * len(b)
    kernel = [[math.exp(k / epsilon) for k in row] for row in products]
    for _ in range(sweeps):
        u = [a[m] / sum(kernel[m][n] * v[n] for n in range(len(b))) for m in range(len(a))]
        v = [b[n] / sum(kernel[m][n] * u[m] for m in range(len(a))) for n in range(len(b))]
    value = 0.0
    for m in range(len(a)):
        for n in range(len(b)):
            mass = u[m] * kernel[m][n] * v[n]
            value += mass * (products[m][n] - epsilon * math.log(mass / (a[m] * b[n])))
    return value


@pytest.mark.parametrize("plan", ["sinkhorn", "independent"])
def test_transport_adds_the_weighted_alignment_to_the_query_loss_on_weighted_means(plan, monkeypatch):
    share, epsilon = 0.4, 0.3
    method, towers = begun("sinkhorn_transport", "supervised", primary_share=share, epsilon=epsilon, plan=plan,
                           alignment_weight=0.3, iterations=2000)  # fmt: skip
    monkeypatch.setitem(method.loss.__globals__, "_TOLERANCE", 1e-6)  # so that the plans are those of the loop
    batch = asked("supervised")
    found = float(method.loss(batch, towers, torch.Generator()))

    sides = {kind: [views_of(towers, kind, i) for i in ITEMS] for kind in KINDS}
    means = {kind: [total(shares_of(own, share), own) for own in side] for kind, side in sides.items()}
    items = [item_of(image, text) for image, text in zip(means["image"], means["text"], strict=True)]
    values = []
    for i in BOTH:
        row = []
        for j in BOTH:
            v, t = sides["image"][i], sides["text"][j]
            a, b = shares_of(v, share), shares_of(t, share)
            products = [[float(v[m] @ t[n]) for n in t] for m in v]
            if plan == "independent":
                row.append(sum(a[m] * b[n] * float(v[m] @ t[n]) for m in v for n in t))
            else:
                row.append(naive_transport(products, list(a.values()), list(b.values()), epsilon))
        values.append(row)
    count = len(BOTH)
    forth = [surprise(values[i][i], values[i]) for i in range(count)]
    back = [surprise(values[i][i], [row[i] for row in values]) for i in range(count)]
    expected = of_queries(towers, items, batch) + 0.3 * (sum(forth) + sum(back)) / (2 * count)
    assert found == pytest.approx(expected, rel=1e-5)


# cached views


def changed(method):
    """The method with its learned factors moved away from 0, so that no weights are the shares."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for factor in method.factors.values():
            factor += torch.randn(factor.shape, generator=generator)
    return method


def weights_of(method, kind, vectors, shares):
    """{column: weight}: shares times the exponential of a factor of the slot, or of the view, to a sum of 1."""
    factor, odds = method.factors[kind].detach(), dict(shares)
    for m in odds:
        if method.config.weighting != "share":
            odds[m] *= math.exp(factor[m] if method.config.weighting == "slot" else vectors[m] @ factor)
    return {m: odd / sum(odds.values()) for m, odd in odds.items()}


def sampled(method, before, after, kind, share, draws, generator):
    """Of each item what a step has: views {column: vector}, anew where they are encoded, their weights and their
    weighted sum; and of each draw the columns."""
    stale, fresh = ([views_of(towers, kind, i) for i in ITEMS] for towers in (before, after))
    shares = [shares_of(own, share) for own in stale]
    chances = [weights_of(method, kind, own, by) if own else {} for own, by in zip(stale, shares, strict=True)]
    columns = [drawn_columns(chances, generator) for _ in range(draws)]
    known = [
        {m: fresh[i][m] if m in (0, *(drawn[i] for drawn in columns)) else stale[i][m] for m in stale[i]} for i in ITEMS
    ]
    weights = [weights_of(method, kind, known[i], shares[i]) if known[i] else {} for i in ITEMS]
    return known, weights, [total(weights[i], known[i]) for i in ITEMS], columns


def views_meet(sides, draw):
    """Primary and sampled views of either kind, each among its like, with the other kind's weighted sums."""
    terms = 0.0
    for (known, _, _, columns), (_, _, other, _) in (sides, sides[::-1]):
        terms += both_ways([known[i][0] for i in BOTH], [unit(other[i]) for i in BOTH])
        there = [i for i in BOTH if columns[draw][i] is not None]
        terms += both_ways([known[i][columns[draw][i]] for i in there], [unit(other[i]) for i in there])
    return terms / 4


def blocks_meet(sides, draw):
    """Primary or sampled image with primary or sampled text, by the products of their weights."""
    held = []  # of each kind and item: (vector, weight) of the primary and, where there is one, of the sampled view
    for known, weights, _, columns in sides:
        held.append({})
        for i in BOTH:
            column, first = columns[draw][i], known[i][0]
            own = [(first, 1.0)]
            if column is not None:
                own = [(first, weights[i][0]), (known[i][column], 1 - weights[i][0])]
            held[-1][i] = own
    images, texts = held
    terms = 0.0
    for k in range(2):
        for n in range(2):
            for i in BOTH:
                if k < len(images[i]) and n < len(texts[i]):
                    (x, a), (y, b) = images[i][k], texts[i][n]
                    forth = surprise(x @ y, [x @ own[n][0] for own in texts.values() if n < len(own)])
                    back = surprise(x @ y, [own[k][0] @ y for own in images.values() if k < len(own)])
                    terms += a * b * (forth + back) / 2
    return terms / len(BOTH)


def rests_meet(sides):
    """Each encoded view with all else of its item, fused as an item is; nothing is left of a kind's only view."""
    terms = []
    for (known, weights, _, columns), (_, _, other, _) in (sides, sides[::-1]):
        for encoded in ([0] * len(known), *columns):
            there = [i for i in BOTH if encoded[i] is not None]
            rests = []
            for i in there:
                left = {m: w for m, w in weights[i].items() if m != encoded[i]}
                rests.append(item_of(total(left, known[i]), other[i]))
            terms.append(both_ways([known[i][encoded[i]] for i in there], rests))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("weighting", ["share", "slot", "gate"])
@pytest.mark.parametrize("form", ["views", "fused", "blocks"])
@pytest.mark.parametrize("track", ["supervised", "aligned"])
def test_the_cached_loss_adds_up_its_form_and_the_weighted_rest_and_blocks(track, form, weighting):
    """Two draws; what the bank has of views that are not drawn is what the towers gave before."""
    key = "alignment_share" if track == "aligned" else "primary_share"
    method, towers = begun("factorized_transport_cached", track, loss=form, weighting=weighting, draws=2,
                           rest_weight=0.7, blocks_weight=0.4, alignment_weight=0.5, **{key: 0.4})  # fmt: skip
    before, batch = Given(SCALE, WIDTH), asked(track)
    for table in towers.tables.values():
        table.copy_(table.flip(1))
    changed(method)
    found = float(method.loss(batch, towers, torch.Generator().manual_seed(7)).detach())

    generator = torch.Generator().manual_seed(7)
    sides = [sampled(method, before, towers, kind, 0.4, 2, generator) for kind in KINDS]
    images, texts = (fused for _, _, fused, _ in sides)
    blocks = sum(blocks_meet(sides, draw) for draw in range(2)) / 2
    if form == "fused":
        own = both_ways([unit(images[i]) for i in BOTH], [unit(texts[i]) for i in BOTH])
    else:
        own = blocks if form == "blocks" else sum(views_meet(sides, draw) for draw in range(2)) / 2
    expected = own + 0.7 * rests_meet(sides) + 0.4 * blocks
    if track == "supervised":
        items = [item_of(image, text) for image, text in zip(images, texts, strict=True)]
        expected = of_queries(towers, items, batch) + 0.5 * expected
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighting", ["share", "slot", "gate"])
@pytest.mark.parametrize("inference", ["matched", "uniform"])
def test_the_cached_pool_weighs_each_view_as_in_training_or_all_alike(inference, weighting, kind):
    method, towers = begun("factorized_transport_cached", "supervised", weighting=weighting, inference=inference,
                           primary_share=0.4)  # fmt: skip
    changed(method)
    ids = KINDS[kind]
    vectors = torch.where(torch.from_numpy(ids >= 0)[..., None], towers.tables[kind + "s"][ids], 0.0)
    with torch.no_grad():
        found = method.pool(kind, vectors, ids)
    for i in ITEMS:
        own = views_of(towers, kind, i)
        weights = shares_of(own, None if inference == "uniform" else 0.4)
        if inference == "matched" and own:
            weights = weights_of(method, kind, own, weights)
        torch.testing.assert_close(found[i], total(weights, own), atol=1e-5, rtol=1e-5)
