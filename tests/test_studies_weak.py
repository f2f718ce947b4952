"""The study of weak supervision on cells made up by a test: which claims hold, what is drawn."""

import re

import pytest
from test_studies_runs import _fewer_draws, all_made, text_of  # noqa: F401

from ftbench.studies import load_study


def test_weak_supervision_is_judged_against_its_labeller_its_first_generation_and_judgements():
    strong = {"bm25": 0.0, "weak_supervision": 0.05, "gws_joint": 0.12, "factorized_transport": 0.2}
    study = load_study("weak-supervision")
    done = all_made(study, lambda cell: strong.get(cell.request.method, 0.06))
    said = text_of(study.outcome(done))
    assert said.count("beats its labeller, bm25, on studio. It holds here.") == 1
    assert said.count("The best is gws_joint") == 2
    assert said.count("beats one generation on studio. It holds here.") == 1
    assert re.search(r"It holds here[.] gws_joint: 0[.]6\d+ of 0[.]6\d+, 8\d%", said)
    worse = text_of(study.outcome(all_made(study, lambda cell: 0.2 * (cell.request.method == "bm25"))))
    assert worse.count("It does not hold here") >= 4


@pytest.mark.parametrize(
    ("moved", "holds"), [(0.05, True), (0.0, True), (-0.004, True), (-0.01, False), (-0.05, False)]
)
def test_weights_are_harmless_where_they_certainly_cost_less_than_the_margin(moved, holds):
    done = all_made(load_study("weak-supervision"), lambda cell: moved * ("nqc" in cell.key))
    said = text_of(load_study("weak-supervision").outcome(done))
    verdict = "It holds here." if holds else "It does not hold here."
    assert f"query weights cost less than 0.01 nDCG@10 on average. {verdict}" in said


@pytest.mark.parametrize(("moved", "verdict"), [(0.05, "It holds here."), (-0.05, "It does not hold here.")])
def test_reranking_is_compared_with_the_plain_form(moved, verdict):
    study = load_study("weak-supervision")
    (cell,) = (cell for cell in study.cells(False) if cell.key.startswith("gws_joint-rerank"))
    assert (cell.key, cell.request.method, cell.request.data) == ("gws_joint-rerank-0", "gws_joint", "studio")
    assert dict(cell.request.settings) == {"serve": "rerank"}
    done = all_made(study, lambda cell: moved * ("rerank" in cell.key))
    assert f"gws_joint is better than without. {verdict}" in text_of(study.outcome(done))
    del done[cell.key]
    assert "better than without" not in text_of(study.outcome(done))


def test_both_measures_are_drawn_by_labeller():
    from matplotlib.figure import Figure as Canvas

    study = load_study("weak-supervision")
    done = all_made(study, lambda cell: 0.0)
    for cell in done.values():
        for stage in cell.record["training"].get("generations", ()):
            stage["scores"]["recall@100"] = 0.9
    drawn = {one.name: one for one in study.outcome(done).figures if one.name.startswith("generations-by-labeller")}
    assert list(drawn) == ["generations-by-labeller-ndcg", "generations-by-labeller-recall"]
    for name, figure in drawn.items():
        canvas = Canvas()
        figure.draw(canvas)
        values = {y for axes in canvas.axes for line in axes.lines for y in line.get_ydata() if len(line.get_ydata())}
        assert (values == {0.9}) == name.endswith("recall") and values
        assert canvas.get_supylabel() == ("Recall@100" if name.endswith("recall") else "nDCG@10")
        assert canvas.get_supylabel().split("@")[0] in figure.caption
