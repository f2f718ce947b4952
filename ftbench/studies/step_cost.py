"""Seconds, encoder passes, operations and memory of a training step by number of views, and of pair terms alone.

What the cells of the study cost_vs_views call. A step trains on drawn pixels and words in memory and takes turns, step
by step, with the same items with 2 views, so that a ratio meets one state of the machine.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

MOST_VIEWS, FEW, ITEMS, BATCH, STEPS, WARM_UP = 32, 2, 256, 64, 11, 2
TERM_ITEMS, TERM_SWEEPS, MATCHED_ITEMS = 32, 10, 16
DRAWINGS = 1021  # a prime, so that items with 2 to 32 views share no pattern
_SEED = 9  # of the drawings; no catalogue has it, nor the foundation weights
_WIDTH = 96  # of the embeddings, as the encoder tiny has them


def step(method: str, views: int) -> dict:
    """A training step on the aligned track with `views` image views and as many text views per item.

    seconds, few_seconds: medians of STEPS steps after WARM_UP, with `views` and in turn with FEW; ratio: the median of
    the ratios of neighbours. passes: encoder passes per item of a batch. operations: floating-point operations of
    matrix products and convolutions of a whole step, forward and backward. memory: peak bytes above what the process
    held before. warm_up_passes: per item, once, before the first step.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ftbench import provenance
    from ftbench.encoders.base import load_encoder
    from ftbench.items import silent
    from ftbench.method import load_method, trainer_settings
    from ftbench.trainer import Trainer

    data, encoder = _training_set(MOST_VIEWS), load_encoder("tiny")
    config = replace(trainer_settings(load_method(method, track="aligned")), batch_size=BATCH, threads=1)

    def trained(program, steps: int) -> None:
        board, device = "equal-steps", torch.device("cpu")
        settings = replace(config, steps=steps)
        Trainer(encoder, settings, board, 0, device, lambda title: silent).train(program, data)

    provenance.restart_peak_memory()
    before = provenance.peak_memory()
    turns = _Turns(method, (views, FEW))
    trained(turns, 2 * (WARM_UP + STEPS) + 1)
    memory = provenance.peak_memory() - before
    times = np.diff(turns.times)[2 * WARM_UP :].reshape(-1, 2)  # (steps, 2): many, few
    passes = np.diff(turns.passes)[2 * WARM_UP :: 2]
    counted = []
    for steps in (1, 2):  # what comes before the first step cancels out
        with FlopCounterMode(display=False) as counter:
            trained(_Turns(method, (views,)), steps)
        counted.append(counter.get_total_flops())
    return {
        "seconds": float(np.median(times[:, 0])), "few_seconds": float(np.median(times[:, 1])),
        "ratio": float(np.median(times[:, 0] / times[:, 1])), "passes": float(np.median(passes)) / BATCH,
        "operations": counted[1] - counted[0], "memory": memory, "warm_up_passes": turns.warm_up / ITEMS,
        "steps": len(times),
    }  # fmt: skip


def term(method: str, views: int) -> dict:
    """The pair term of a loss on given embeddings: seconds (median), and operations of its matrix products.

    all_pairs: the loss and its gradient between TERM_ITEMS items of `views` image and as many text embeddings.
    sinkhorn_transport: the plans of all pairs of these items, TERM_SWEEPS sweeps. m3g: the matching gap of
    MATCHED_ITEMS items in `views` views, and its gradient.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    work = {"all_pairs": _all_pairs, "sinkhorn_transport": _plans, "m3g": _gap}[method]
    run = work(views, torch.Generator().manual_seed(0))
    times, started = [], time.perf_counter()
    while len(times) < STEPS + WARM_UP or (time.perf_counter() - started < 2 and len(times) < 500):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    with FlopCounterMode(display=False) as counter:
        run()
    kept = times[WARM_UP:]
    return {"seconds": float(np.median(kept)), "operations": counter.get_total_flops(), "steps": len(kept)}


def _unit(generator, *shape: int):
    import torch
    from torch.nn import functional as F

    return F.normalize(torch.randn(*shape, _WIDTH, generator=generator), dim=-1).requires_grad_()


def _all_pairs(views: int, generator):
    import torch

    from ftbench.losses import all_pairs_info_nce

    x, y = (_unit(generator, TERM_ITEMS, views) for _ in range(2))
    share = torch.full((TERM_ITEMS, views), 1 / views)
    return lambda: all_pairs_info_nce(x, y, share, share, 20.0).backward()


def _plans(views: int, generator):
    import torch

    from ftbench.transport import sinkhorn

    x, y = (_unit(generator, TERM_ITEMS, views).detach() for _ in range(2))
    share = torch.full((TERM_ITEMS, views), 1 / views)

    def run() -> None:
        similarity = torch.einsum("imd,jnd->ijmn", x, y)
        sinkhorn(similarity, share[:, None], share[None], 0.1, iterations=TERM_SWEEPS, tolerance=-1.0)

    return run


def _gap(views: int, generator):
    from ftbench.matching import matching_gap

    x = _unit(generator, 1, views, MATCHED_ITEMS)
    return lambda: matching_gap(x, 0.2, TERM_SWEEPS).sum().backward()


class _Pixels:
    """Drawings in memory, in the place of a catalogue's memory map."""

    def __init__(self, drawn: Sequence[np.ndarray]):
        self.drawn = drawn

    def decode(self, i: int) -> np.ndarray:
        return self.drawn[i % len(self.drawn)]


def _training_set(views: int):
    """ITEMS items that all have `views` images and texts: drawings of other items, and what they show in words, so that
    plans between views are as hard to solve as those of real ones. There are DRAWINGS of them, in turn."""
    from ftbench.assets import Assets
    from ftbench.batches import TrainingSet
    from ftbench.sources.studio import captioned_drawing
    from ftbench.views import Views

    drawn, words = zip(*(captioned_drawing(_SEED, i) for i in range(DRAWINGS)), strict=True)
    count = ITEMS * views
    assets = Assets(
        texts=tuple(words[i % DRAWINGS] for i in range(count)),
        image_sha256=tuple(map(str, range(count))), image_phash=("",) * count,
        text_sha256=tuple(map(str, range(count))), image_names=("view",) * count, text_names=("text",) * count,
        image_probe=np.ones(count, dtype=bool), image_reveals=((),) * count, text_reveals=((),) * count,
        _images=_Pixels(drawn),
    )  # fmt: skip
    ids = np.arange(count, dtype=np.int64).reshape(ITEMS, views)
    return TrainingSet(tuple(f"item{i}" for i in range(ITEMS)), Views(assets, images=ids, texts=ids))


class _Turns:
    """A program for the trainer that takes turns between a method's with different numbers of views.

    times, passes: when each step began, and the encoder passes until then. warm_up: passes before the first step with
    the first of the numbers.
    """

    def __init__(self, method: str, views: tuple[int, ...]):
        self.name, self.views = method, views
        self.times: list[float] = []
        self.passes: list[int] = []
        self.programs: list = []

    def begin(self, data, towers) -> None:
        from ftbench.method import load_method

        for views in self.views:
            before = _passes(towers)
            ids = {kind: getattr(data.views, kind)[:, :views] for kind in ("images", "texts")}
            own = replace(data, views=replace(data.views, **ids))
            method = load_method(self.name, track="aligned")
            taken = SimpleNamespace(train=lambda program, given: self.programs.append((program, given)))
            method.fit(own, own, taken)
            program, given = self.programs[-1]
            program.begin(given, towers)
            if views == self.views[0] and len(self.programs) == 1:
                self.warm_up = _passes(towers) - before

    def learned(self):
        return [parameter for program, _ in self.programs for parameter in program.learned()]

    def loss(self, batch, towers, generator):
        program, _ = self.programs[len(self.times) % len(self.programs)]
        self.passes.append(_passes(towers))
        self.times.append(time.perf_counter())
        return program.loss(batch, towers, generator)


def _passes(towers) -> int:
    return towers.meter.image_passes + towers.meter.text_passes
