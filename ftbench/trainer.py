"""The one training loop: the same encoder, initial weights, data order and budget for every method.

Must not know which method it trains: a method hands over a loss over a batch of items, and encodes through a meter
that counts what it spends.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from ftbench.assets import Assets
from ftbench.batches import Batch, TrainingSet, batches_of
from ftbench.encoders.base import Encoder, Inputs, TwoTowers
from ftbench.errors import RunError
from ftbench.items import Progress
from ftbench.settings import TrainerConfig

TRAINING_PASS, FORWARD_PASS = 3, 1  # forward-equivalents: a backward pass costs about two forward passes


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
        self.at_once: int | None = None  # passes whose activations are held at a time; None: all of a call's
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
        if not passes:
            return torch.zeros(len(ids), self.encoder.dimensions, device=self.device)
        vectors = self._run(source, kind, ids if passes == len(ids) else ids[exists])
        if passes == len(ids):
            return vectors
        rows = torch.from_numpy(np.flatnonzero(exists)).to(self.device)
        return vectors.new_zeros(len(ids), vectors.shape[1]).index_copy(0, rows, vectors)

    def _run(self, source: str, kind: str, ids: np.ndarray) -> torch.Tensor:
        """(k, d) of assets that exist. Where memory is short, activations are held for `at_once` of them at a time and
        made again in the backward pass (gradient checkpointing, Chen et al. 2016), so that gradients add up to those of
        the whole batch."""
        tower = self.model.image if kind == "image" else self.model.text
        inputs = self._inputs[source]
        if self.at_once is None or len(ids) <= self.at_once or not torch.is_grad_enabled():
            return tower(inputs.gather(ids).to(self.device))

        def part(start: int) -> torch.Tensor:
            return tower(inputs.gather(ids[start : start + self.at_once]).to(self.device))

        starts = range(0, len(ids), self.at_once)
        return torch.cat([checkpoint(part, start, use_reentrant=False) for start in starts])


class Program(Protocol):
    """What a trainable method hands to the trainer."""

    def begin(self, data: TrainingSet, towers: Towers) -> None:
        """Called once before the first step, without gradient; passes made here count in the budget."""

    def learned(self) -> Iterable[torch.nn.Parameter]:
        """Parameters of the method's own, made in `begin`, trained beside the towers' at the full rate."""

    def loss(self, batch: Batch, towers: Towers, generator: torch.Generator) -> torch.Tensor:
        """The scalar to minimise for one batch. `generator` is the method's own, so that data order stays shared."""


@dataclass(frozen=True)
class Trained:
    """A trained model with what it cost. curve: (step, loss) pairs, each loss the mean since the pair before.
    adaptations: what was done otherwise than asked because the machine could not, in words. stages: of a method that
    trains in several, each with a `method` and a `trained` to measure and what is `told` of it (JSON values)."""

    model: TwoTowers
    meter: Meter
    steps: int
    seconds: float
    curve: tuple[tuple[int, float], ...]
    adaptations: tuple[str, ...] = ()
    stages: tuple = ()


@dataclass(frozen=True)
class Trainer:
    """Settings of a run's training. zero_shot: the budget is 0. initial: weights to start from in place of the
    encoder's own. folder: the run's own, where a method that trains in stages keeps them, so that a run that was
    stopped goes on there."""

    encoder: Encoder
    config: TrainerConfig
    board: str
    seed: int
    device: torch.device
    progress: Callable[[str], Progress]
    zero_shot: bool = False
    initial: Mapping[str, torch.Tensor] | None = None
    folder: Path | None = None

    def start(self) -> tuple[TwoTowers, Meter]:
        """The initial weights and an empty meter."""
        model = self.encoder.build(self.seed)
        if self.initial is not None:
            model.load_state_dict(self.initial)
        return model.to(self.device), Meter(self.encoder.image_flops, self.encoder.text_flops)

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
        started, step, spent = time.perf_counter(), 0, 0.0
        with torch.no_grad():
            program.begin(data, towers)
        begun = 0.0 if by_steps else meter.spent
        if begun > limit / 2:
            raise RunError(
                f"what the method does before its first step spends {begun:,.0f} of a budget of {limit:,.0f} forward "
                f"passes, more than half. Give more: --set trainer.budget={4 * begun:.0f}"
            )
        optimiser = _optimiser(model, program.learned(), self.config)
        curve, recent, adaptations = [], [], []
        report = self.progress("Training")
        while True:
            done = step if by_steps else meter.spent
            per_step = 1 if by_steps else (done - spent if step else 0)
            if done + per_step > limit or (step == 0 and limit <= 0):
                break
            spent = done
            rate = self.config.learning_rate * schedule((done - begun) / (limit - begun), self.config.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            batch = next(batches)
            recent.append(_step(program, batch, towers, generator, optimiser, adaptations))
            step += 1
            meter.training_items += len(batch.items)
            if step % 20 == 0:
                curve.append((step, _finite_mean(recent, step)))
                recent = []
            report(int(min(done + per_step, limit)), int(limit))
        if recent:
            curve.append((step, _finite_mean(recent, step)))
        report(int(limit), int(limit))
        seconds = time.perf_counter() - started
        return Trained(model.eval(), meter, step, seconds, tuple(curve), tuple(adaptations))


def _step(
    program: Program, batch: Batch, towers: Towers, generator: torch.Generator, optimiser, adaptations: list[str]
) -> torch.Tensor:
    """One optimiser step; the loss, detached. A batch that memory cannot hold is taken in halves, and said so."""
    state, meter = generator.get_state(), replace(towers.meter)
    while True:
        try:
            optimiser.zero_grad(set_to_none=True)
            loss = _scalar(program.loss(batch, towers, generator))
            loss.backward()
            optimiser.step()
            return loss.detach()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
            if not _out_of_memory(problem):
                raise
            if towers.at_once == 1:
                raise RunError(
                    f"out of memory with one encoder pass at a time, at a batch of {len(batch.items)} items: "
                    f"{str(problem).rstrip('.')}. Try a smaller batch: "
                    f"--set trainer.batch_size={max(2, len(batch.items) // 2)}"
                ) from problem
        generator.set_state(state)
        vars(towers.meter).update(vars(meter))
        towers.at_once = max(1, (towers.at_once or len(batch.items)) // 2)
        adaptations[:] = [
            f"out of memory: encoder passes were made {towers.at_once} at a time and their gradients added up; the "
            f"batch is still of {len(batch.items)} items"
        ]


def _scalar(loss: object) -> torch.Tensor:
    """A method's loss; raises RunError where it is no scalar that steps can be taken on."""
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        given = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise RunError(f"the method's loss gave {given}, expected a scalar tensor: end it with .mean()")
    if not loss.requires_grad:
        raise RunError("the method's loss depends on no weight: make it of what towers.images and towers.texts give.")
    return loss.reshape(())


def _out_of_memory(problem: Exception) -> bool:
    """Whether torch or Python lacked memory; on a CPU torch says so in a RuntimeError, in other words by system."""
    words = ("can't allocate memory", "not enough memory")
    return isinstance(problem, (torch.OutOfMemoryError, MemoryError)) or any(word in str(problem) for word in words)


def _finite_mean(losses: list[torch.Tensor], step: int) -> float:
    mean = float(torch.stack(losses).mean())
    if not np.isfinite(mean):
        first = float(losses[0])
        if step == len(losses) and not np.isfinite(first):  # no rate has played a part yet
            raise RunError(
                f"the method's loss gave {first} at the first step, before any update, expected a finite number. Look "
                "in its loss for a division by zero, or a logarithm or root of what is not above zero."
            )
        raise RunError(f"the loss became {mean} by step {step}; try a lower rate: --set trainer.learning_rate=0.0003")
    return mean


def schedule(done: float, warmup: float) -> float:
    """The learning rate's factor at a share of the budget: linear warm-up, then half a cosine to zero."""
    if done < warmup:
        return (done + 0.01) / (warmup + 0.01)
    return 0.5 * (1 + np.cos(np.pi * (done - warmup) / (1 - warmup)))


def _optimiser(model: TwoTowers, learned: Iterable[torch.nn.Parameter], config: TrainerConfig) -> torch.optim.Optimizer:
    factors = {id(p): config.image_rate for p in model.image_parameters()}
    factors |= {id(p): config.word_rate for p in model.word_parameters()}
    groups: dict[tuple[float, float], list] = {}
    for p in (*model.parameters(), *learned):
        if p.requires_grad:
            decay = config.weight_decay if p.ndim > 1 else 0.0
            groups.setdefault((factors.get(id(p), 1.0), decay), []).append(p)
    made = [{"params": ps, "weight_decay": decay, "factor": factor} for (factor, decay), ps in groups.items()]
    return torch.optim.AdamW(made, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
