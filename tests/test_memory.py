"""A batch that memory cannot hold: halved, gradients added up, the same weights, and said so."""

import pytest
import torch

from ftbench import record, runner, suite
from ftbench.errors import RunError
from ftbench.items import silent
from ftbench.method import load_method
from ftbench.request import Request, requests
from ftbench.settings import TrainerConfig
from ftbench.task import load_task, training_sets
from ftbench.trainer import Towers, Trainer

METHODS = ("single_view_clip", "mean_pooling_all_views", "factorized_transport", "factorized_transport_cached")
SHORT = {
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to ..."),
    "linux": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: ..."
    ),
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "python": MemoryError(),
}


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder


def limit(monkeypatch, most, problem):
    """Towers that hold the activations of at most so many passes of a call. Returns what was asked for at a time."""
    run, asked = Towers._run, []

    def limited(self, source, kind, ids):
        held = min(len(ids), self.at_once or len(ids))
        asked.append(held)
        if torch.is_grad_enabled() and held > most:
            raise problem
        return run(self, source, kind, ids)

    monkeypatch.setattr(Towers, "_run", limited)
    return asked


def fitted(name, encoder, toy, **settings):
    config = TrainerConfig(**({"steps": 1, "batch_size": 8} | settings))
    train, valid = training_sets(load_task("query2item", "toy"), toy, "supervised")
    trainer = Trainer(encoder, config, "equal-steps", 0, torch.device("cpu"), lambda title: silent)
    return load_method(name, track="supervised").fit(train, valid, trainer)


@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize("name", METHODS)
def test_an_adapted_run_has_the_weights_and_the_cost_of_an_unconstrained_one(name, kind, encoder, toy, monkeypatch):
    if kind != "cpu" and name != "single_view_clip":
        pytest.skip("each kind of error once")
    free = fitted(name, encoder, toy)
    assert free.adaptations == ()
    asked = limit(monkeypatch, 3, SHORT[kind])
    tight = fitted(name, encoder, toy)
    assert max(asked) > 3, "nothing was too large: this test shows nothing"
    assert len(tight.adaptations) == 1 and "out of memory" in tight.adaptations[0]
    assert "2 at a time" in tight.adaptations[0] and "still of 8 items" in tight.adaptations[0]
    changed = 0
    for (key, one), two in zip(free.model.named_parameters(), tight.model.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), key
        if one.grad is None:
            continue
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-5, atol=1e-5, msg=key)
        clear = one.grad.abs() > 1e-4  # Adam's first step has the gradient's sign, be it of rounding alone
        torch.testing.assert_close(one[clear], two[clear], rtol=1e-5, atol=1e-5, msg=key)
        changed += int(clear.sum())
    assert changed > 1000
    assert vars(free.meter) == vars(tight.meter) and free.steps == tight.steps == 1
    assert free.curve[0][1] == pytest.approx(tight.curve[0][1], rel=1e-5)


def test_memory_that_holds_not_even_one_pass_is_a_clear_error(encoder, toy, monkeypatch):
    limit(monkeypatch, 0, SHORT["cpu"])
    with pytest.raises(RunError, match="one encoder pass at a time.*not enough memory.*trainer.batch_size=4"):
        fitted("single_view_clip", encoder, toy)


def test_a_pair_term_without_memory_is_tried_down_to_one_pass_at_a_time(encoder, toy):
    train, valid = training_sets(load_task("query2item", "toy"), toy, "supervised")
    trainer = Trainer(encoder, TrainerConfig(steps=1, batch_size=8), "equal-steps", 0, torch.device("cpu"),
                      lambda title: silent)  # fmt: skip
    method, tried = load_method("single_view_clip", track="supervised"), []

    def loss(batch, towers, generator):
        tried.append(towers.at_once)
        raise SHORT["gpu"]

    method.loss = loss
    with pytest.raises(RunError, match="one encoder pass at a time, at a batch of 8 items: CUDA out of memory"):
        method.fit(train, valid, trainer)
    assert tried == [None, 4, 2, 1]


def test_another_error_is_not_taken_for_want_of_memory(encoder, toy, monkeypatch):
    limit(monkeypatch, 3, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fitted("single_view_clip", encoder, toy)


def test_the_record_and_the_person_are_told(session_cache, tmp_path, monkeypatch):
    limit(monkeypatch, 9, SHORT["gpu"])
    told = []
    session = runner.Session(tmp_path / "results", lambda title: silent, tell=told.append)
    settings = (("trainer.budget", "1500"), ("trainer.batch_size", "32"))
    made = runner.run(Request("single_view_clip", "query2item", "studio@200", settings=settings), session)
    (said,) = record.read(made.path)["training"]["adaptations"]
    assert "8 at a time" in said and "still of 32 items" in said
    assert any("single_view_clip" in line and said in line for line in told)


SHORT_OF_IT = """'''Short of memory. Differs from the paper: none.'''
import torch
from ftbench import method

def short():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

class Method(method.TwoTower):
    def begin(self, data, towers):
        super().begin(data, towers)
        {begin}

    def loss(self, batch, towers, generator):
        titles = towers.texts(self.views.texts[batch.items, 0])
        pairs = titles @ towers.queries(batch.queries[:, 0]).T
        {loss}
        return -pairs.mean()

    def embed(self, views, embedder):
        {embed}
        return super().embed(views, embedder)
"""
AT_ONE_PASS = (
    "out of memory with one encoder pass at a time, at a batch of 8 items: CUDA out of memory. Tried to allocate 2.00 "
    "GiB. Try a smaller batch: --set trainer.batch_size=4"
)


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("loss", "short()", AT_ONE_PASS),
        ("loss", "pairs.register_hook(lambda grad: short())", AT_ONE_PASS),
        ("begin", "short()", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. (line 6 of short.py"),
        ("embed", "short()", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. (line 6 of short.py"),
    ],
    ids=["pairs", "gradients", "begin", "embed"],
)
def test_memory_that_a_method_s_own_terms_lack_is_a_record_and_the_others_go_on(
    place, code, said, session_cache, tmp_path
):
    """Fewer encoder passes at a time do not help there."""
    path, told = tmp_path / "short.py", []
    path.write_text(SHORT_OF_IT.format(**{"begin": "", "loss": "", "embed": ""} | {place: code}))
    settings = (("trainer.budget", "300"), ("trainer.batch_size", "8"))
    found = suite.make(
        requests([str(path), "bm25"], ["query2item"], ["studio@200"], [0], Request("", "", settings=settings)),
        suite.Suite(tmp_path / "results", lambda title: silent, told.append),
    )
    assert said in str(found[0].problem)
    kept = record.read(found[0].path)
    assert kept["status"] == "error" and said in kept["error"] and kept["scores"]["ndcg@10"]["mean"] is None
    assert found[1].problem is None and found[1].record["status"] == "ok"
    assert sum(said in line for line in told) == 1
