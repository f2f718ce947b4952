"""The one training loop: the same encoder, initial weights, data order and budget for every method.

Must not know which method it trains: a method hands over a loss over a batch of items, and encodes through a meter
that counts what it spends.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from ftbench.assets import Assets
from ftbench.encoders.base import Encoder, Inputs, TwoTowers
from ftbench.errors import RunError
from ftbench.items import Judgement, Progress
from ftbench.views import Views

TRAINING_PASS, FORWARD_PASS = 3, 1  # forward-equivalents: a backward pass costs about two forward passes
BOARDS = ("equal-compute", "equal-steps")


@dataclass(frozen=True)
class TrainerConfig:
    """What every method shares. A run may override these with `--set trainer.KEY=VALUE`; they are part of its id."""

    budget: float = 350_000.0  # forward-equivalents of the image tower; about 50 s on one core with `tiny`
    steps: int = 300  # the budget of the equal-steps board, and of locked towers, which spend no encoder passes
    batch_size: int = 64  # items
    queries_per_item: int = 4  # queries of an item in a batch: its views are encoded once for all of them
    learning_rate: float = 3e-3  # AdamW, peak; this and the next two were chosen on studio's validation split
    image_rate: float = 0.3  # of learning_rate, for the image tower; aligned track: 0.03
    word_rate: float = 3.0  # of learning_rate, for word embeddings, each seen in few batches; aligned track: 0.03
    weight_decay: float = 0.01  # AdamW; matrices only
    warmup: float = 0.05  # share of the budget with a rising rate; a cosine to zero follows
    threads: int = 1  # of torch and BLAS; part of the id: sums in another order give other bits. One: no idle waiting

    def problems(self) -> list[str]:
        """What is wrong with these settings, all of it."""
        bounds = {
            "budget": 0,
            "steps": 0,
            "batch_size": 2,
            "queries_per_item": 1,
            "learning_rate": 0,
            "image_rate": 0,
            "word_rate": 0,
            "weight_decay": 0,
            "threads": 1,
        }
        found = [f"{k} is {getattr(self, k)}, expected at least {least}" for k, least in bounds.items()
                 if not getattr(self, k) >= least]  # fmt: skip
        return found + ([] if 0 <= self.warmup < 1 else [f"warmup is {self.warmup}, expected a share in [0, 1)"])


def default_settings(track: str) -> TrainerConfig:
    """What all methods of a track share, before `--set trainer.KEY=VALUE`.

    Without queries the foundation's weights are near the best already, and faster rates left every method worse than
    its start. Of 0.03 and 0.1 the one with the better mean over methods (cross_view, studio's validation split).
    """
    return TrainerConfig(image_rate=0.03, word_rate=0.03) if track == "aligned" else TrainerConfig()


@dataclass(frozen=True)
class TrainingSet:
    """What `fit` may see of a split: its items' views and, on tracks that may use them, interactions.

    interactions: (m, 2) int64 pairs (query, item), positions in `query_texts` and in `views`; empty where the track may
    not use them. judgements: of the validation split alone, where the track may use them; never of the test split.
    """

    item_ids: tuple[str, ...]
    views: Views
    query_texts: tuple[str, ...] = ()
    interactions: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Batch:
    """One step's items: positions (b,) int64 in the training set.

    queries: (b, k) positions in its query texts, k of each item, or None. same: (b, k, b) bool, [i, q, j]: item j has a
    query of the same text as query q of item i, so it is no negative.
    """

    items: np.ndarray
    queries: np.ndarray | None
    same: torch.Tensor | None


@dataclass
class Meter:
    """Encoder passes so far, in all. `spent` is in forward-equivalents of the image tower."""

    image_flops: float
    text_flops: float
    image_passes: int = 0
    text_passes: int = 0
    training_items: int = 0
    flops: float = 0.0

    @property
    def spent(self) -> float:
        return self.flops / self.image_flops if self.image_flops else 0.0

    def count(self, kind: str, passes: int, weight: int) -> None:
        if kind == "image":
            self.image_passes += passes
            self.flops += weight * passes * self.image_flops
        else:
            self.text_passes += passes
            self.flops += weight * passes * self.text_flops


class Towers:
    """The encoder as a method sees it: asset ids in, unit vectors out, every pass counted."""

    def __init__(self, model: TwoTowers, encoder: Encoder, device: torch.device, meter: Meter):
        self.model, self.encoder, self.device, self.meter = model, encoder, device, meter
        self._inputs: dict[str, Inputs] = {}

    def open(self, data: TrainingSet, progress: Progress) -> None:
        """Make a training set's images, texts and queries available by id."""
        assets: Assets = data.views.assets
        self._inputs = {
            "image": self.encoder.image_inputs(assets, progress),
            "text": self.encoder.text_inputs(assets.texts, data.views.texts, progress),
            "query": self.encoder.text_inputs(data.query_texts, np.arange(len(data.query_texts)), progress),
        }

    def images(self, ids: np.ndarray) -> torch.Tensor:
        """(k,) image asset ids -> (k, d) float32 unit vectors; -1 gives a zero row and costs nothing."""
        return self._encode("image", "image", ids)

    def texts(self, ids: np.ndarray) -> torch.Tensor:
        """(k,) text asset ids -> (k, d), likewise."""
        return self._encode("text", "text", ids)

    def queries(self, ids: np.ndarray) -> torch.Tensor:
        """(k,) positions in the training set's query texts -> (k, d)."""
        return self._encode("query", "text", ids)

    @property
    def scale(self) -> torch.Tensor:
        """1 / temperature, learned."""
        return self.model.logit_scale

    def _encode(self, source: str, kind: str, ids: np.ndarray) -> torch.Tensor:
        exists = ids >= 0
        passes = int(exists.sum())
        self.meter.count(kind, passes, TRAINING_PASS if torch.is_grad_enabled() else FORWARD_PASS)
        tower = self.model.image if kind == "image" else self.model.text
        if passes == len(ids):
            return tower(self._inputs[source].gather(ids).to(self.device))
        if not passes:
            return torch.zeros(len(ids), self.encoder.dimensions, device=self.device)
        vectors = tower(self._inputs[source].gather(ids[exists]).to(self.device))
        rows = torch.from_numpy(np.flatnonzero(exists)).to(self.device)
        return vectors.new_zeros(len(ids), vectors.shape[1]).index_copy(0, rows, vectors)


class Program(Protocol):
    """What a trainable method hands to the trainer."""

    def begin(self, data: TrainingSet, towers: Towers) -> None:
        """Called once before the first step, without gradient; passes made here count in the budget."""

    def loss(self, batch: Batch, towers: Towers, generator: torch.Generator) -> torch.Tensor:
        """The scalar to minimise for one batch. `generator` is the method's own, so that data order stays shared."""


@dataclass(frozen=True)
class Trained:
    """A trained model with what it cost. curve: (step, loss) pairs, each loss the mean since the pair before."""

    model: TwoTowers
    meter: Meter
    steps: int
    seconds: float
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trainer:
    """Settings of a run's training. zero_shot: the budget is 0."""

    encoder: Encoder
    config: TrainerConfig
    board: str
    seed: int
    device: torch.device
    progress: Callable[[str], Progress]
    zero_shot: bool = False

    def start(self) -> tuple[TwoTowers, Meter]:
        """The initial weights and an empty meter."""
        return self.encoder.build(self.seed).to(self.device), Meter(self.encoder.image_flops, self.encoder.text_flops)

    def train(self, program: Program, data: TrainingSet) -> Trained:
        """Run the budget down. Raises RunError where there is nothing to train on, or the loss is not finite."""
        model, meter = self.start()
        towers = Towers(model, self.encoder, self.device, meter)
        if self.zero_shot:
            return Trained(model, meter, 0, 0.0, ())
        if len(data.item_ids) < 2:
            raise RunError(f"training needs at least 2 items, the training split has {len(data.item_ids)}.")
        towers.open(data, self.progress("Reading features"))
        by_steps = self.board == "equal-steps" or self.encoder.locked
        limit = self.config.steps if by_steps else self.config.budget
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + 1)
        batches = batches_of(data, self.config, self.seed)
        optimiser = _optimiser(model, self.config)
        started, step, spent = time.perf_counter(), 0, 0.0
        curve, recent = [], []
        report = self.progress("Training")
        with torch.no_grad():
            program.begin(data, towers)
        while True:
            done = step if by_steps else meter.spent
            per_step = 1 if by_steps else (done - spent if step else 0)
            if done + per_step > limit or (step == 0 and limit <= 0):
                break
            spent = done
            rate = self.config.learning_rate * schedule(done / limit, self.config.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            batch = next(batches)
            loss = program.loss(batch, towers, generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
            meter.training_items += len(batch.items)
            recent.append(loss.detach())
            if step % 20 == 0:
                curve.append((step, _finite_mean(recent, step)))
                recent = []
            report(int(min(done + per_step, limit)), int(limit))
        if recent:
            curve.append((step, _finite_mean(recent, step)))
        report(int(limit), int(limit))
        return Trained(model.eval(), meter, step, time.perf_counter() - started, tuple(curve))


def _finite_mean(losses: list[torch.Tensor], step: int) -> float:
    mean = float(torch.stack(losses).mean())
    if not np.isfinite(mean):
        raise RunError(f"the loss became {mean} by step {step}; try a lower rate: --set trainer.learning_rate=0.0003")
    return mean


def schedule(done: float, warmup: float) -> float:
    """The learning rate's factor at a share of the budget: linear warm-up, then half a cosine to zero."""
    if done < warmup:
        return (done + 0.01) / (warmup + 0.01)
    return 0.5 * (1 + np.cos(np.pi * (done - warmup) / (1 - warmup)))


def _optimiser(model: TwoTowers, config: TrainerConfig) -> torch.optim.Optimizer:
    factors = {id(p): config.image_rate for p in model.image_parameters()}
    factors |= {id(p): config.word_rate for p in model.word_parameters()}
    groups: dict[tuple[float, float], list] = {}
    for p in model.parameters():
        if p.requires_grad:
            decay = config.weight_decay if p.ndim > 1 else 0.0
            groups.setdefault((factors.get(id(p), 1.0), decay), []).append(p)
    made = [{"params": ps, "weight_decay": decay, "factor": factor} for (factor, decay), ps in groups.items()]
    return torch.optim.AdamW(made, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def batches_of(data: TrainingSet, config: TrainerConfig, seed: int):
    """Endless batches, the same for every method: epochs over items in a seeded order, each with some of its queries.

    An item without interactions does not enter the supervised track's batches; one with fewer than queries_per_item
    repeats them. Without queries, an item that lacks images or texts does not enter. The last,
    smaller batch of an epoch is kept where it has at least 2 items.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, 1]))
    queries_of: dict[int, list[int]] = {}
    for query, item in data.interactions:
        queries_of.setdefault(int(item), []).append(int(query))
    both = (data.views.images[:, 0] >= 0) & (
        data.views.texts[:, 0] >= 0
    )  # an image-text loss needs an image and a text
    items = np.array(sorted(queries_of)) if queries_of else np.flatnonzero(both)
    if len(items) < 2:
        need = "interactions" if queries_of else "an image and a text"
        raise RunError(f"training needs at least 2 items with {need}, the training split has {len(items)}.")
    numbers = {text: i for i, text in enumerate(dict.fromkeys(data.query_texts))}
    text_of = np.array([numbers[text] for text in data.query_texts])
    while True:
        order = generator.permutation(items)
        shift = generator.integers(0, 2**31, size=len(order))
        for start in range(0, len(order), config.batch_size):
            chosen = order[start : start + config.batch_size]
            if len(chosen) < 2:
                continue
            if not queries_of:
                yield Batch(chosen, None, None)
                continue
            own = [queries_of[int(i)] for i in chosen]
            first = shift[start : start + config.batch_size]
            queries = np.array(
                [[q[(u + k) % len(q)] for k in range(config.queries_per_item)] for q, u in zip(own, first, strict=True)]
            )
            texts = text_of[queries]  # (b, k)
            same = (texts[:, :, None, None] == texts[None, None]).any(axis=3)  # (b, k, b)
            yield Batch(chosen, queries, torch.from_numpy(same))
