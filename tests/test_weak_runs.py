"""Whole runs of generalized weak supervision: what their records say of generations, tracks and methods called."""

import pytest
from test_end_to_end import session  # noqa: F401

from ftbench import provenance, record, runner
from ftbench.method import load_method
from ftbench.request import Request

QUICK = (("trainer.budget", "12000"), ("trainer.batch_size", "32"), ("ranker", "mean_pooling"), ("generations", "2"))
ROLES = {"gws_cross": ["ranker", "second", "ranker"], "gws_joint": ["ranker", "second"] * 2, "gws_greedy": ["ranker", "second"] * 2}  # noqa: E501  # fmt: skip


@pytest.mark.parametrize(
    ("form", "track", "more"),
    [
        ("gws_cross", "weak", ()),
        ("gws_joint", "weak", (("serve", "rerank"), ("candidates", "10"))),
        ("gws_greedy", "weak-validated", (("serve", "rerank"),)),
    ],
)
def test_a_run_and_its_record(form, track, more, session, monkeypatch):  # noqa: F811
    left, fit = [], runner._fit

    def watched(planned, own):
        trained = fit(planned, own)
        left.extend(path.name for path in stages.glob("*/*.safetensors"))
        return trained

    stages = runner.stages_folder("any").parent
    monkeypatch.setattr(runner, "_fit", watched)
    asked = Request(form, "query2item", "studio@200", track=track, settings=(*QUICK, *more))
    found = record.read(runner.run(asked, session).path)  # which refuses what the schema does not have
    assert (found["status"], found["track"], record.problems(found)) == ("ok", track, [])
    assert f"--track {track}" in found["command"] or track == "weak"
    told = found["training"]["generations"]
    assert [stage["role"] for stage in told] == ROLES[form]
    assert [stage["generation"] for stage in told] == [1, 1, 2, 2][: len(told)]
    for stage in told:
        assert set(stage["scores"]) == set(found["scores"]) and 0 < stage["scores"]["ndcg@10"] < 1
        assert stage["method"] == {"ranker": "mean_pooling", "second": "late_interaction"}[stage["role"]]
    served = [stage["scores"] for stage in told if stage["role"] == "ranker"][-1]
    same = {name: score["mean"] for name, score in found["scores"].items()} == served
    assert same == (not more)  # the second ranker orders anew
    assert len(left) == len(told) and not list(stages.glob("*/*"))
    names = ["bm25", "mean_pooling", "late_interaction"]
    assert found["method"]["parts"] == {name: provenance.source_sha256(load_method(name).path) for name in names}
