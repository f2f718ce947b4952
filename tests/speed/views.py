"""Seconds per training step with 16 views per item of each kind against 2: must hardly grow for the factorized methods.

One training run alternates, step by step, between the two tables of views of the same items, so that both meet the same
machine; a step lasts from one call of the loss to the next. On the supervised track (four queries an item) with the
trainer's defaults, encoder `tiny`, one thread. Fewer steps for a quick look: python tests/speed/views.py --steps 6
"""

import argparse
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from figures import Figures

from ftbench.assets import Assets
from ftbench.batches import TrainingSet
from ftbench.encoders import tiny
from ftbench.encoders.base import Encoder, load_encoder
from ftbench.method import load_method
from ftbench.settings import TrainerConfig
from ftbench.trainer import Trainer
from ftbench.views import Views

ITEMS, MANY, FEW, QUERIES = 256, 16, 2, 4
MOST = 1.1
METHODS = {"factorized_transport": 60, "factorized_transport_cached": 60, "mean_pooling_all_views": 16}  # steps of each


class Pixels:
    """Random images (n, 48, 48, 3) uint8 in memory, in place of a catalogue's memory map."""

    def __init__(self, count: int, rng: np.random.Generator):
        self.images = rng.integers(0, 256, (count, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE, 3), dtype=np.uint8)

    def decode(self, i: int) -> np.ndarray:
        return self.images[i]


def training_set(rng: np.random.Generator) -> TrainingSet:
    """Items that have all their views, with queries; texts are random words of the encoder's vocabulary."""
    words, count = np.array(tiny.vocabulary()), ITEMS * MANY

    def texts(number: int, length: int) -> tuple[str, ...]:
        return tuple(" ".join(row) for row in rng.choice(words, (number, length)))

    assets = Assets(
        texts=texts(count, 12),
        image_sha256=tuple(map(str, range(count))),
        image_phash=("",) * count,
        text_sha256=tuple(map(str, range(count))),
        image_names=("view",) * count,
        text_names=("text",) * count,
        image_probe=np.ones(count, dtype=bool),
        image_reveals=((),) * count,
        text_reveals=((),) * count,
        _images=Pixels(count, rng),
    )
    ids = np.arange(count, dtype=np.int64).reshape(ITEMS, MANY)
    pairs = [(i * QUERIES + k, i) for i in range(ITEMS) for k in range(QUERIES)]
    return TrainingSet(
        item_ids=tuple(f"item{i}" for i in range(ITEMS)),
        views=Views(assets, images=ids, texts=ids),
        query_texts=texts(ITEMS * QUERIES, 4),
        interactions=np.array(pairs),
    )


class Alternating:
    """A program for the trainer: odd steps with few views, even steps with many, and when each step began."""

    def __init__(self, name: str):
        self.many, self.few = load_method(name), load_method(name)
        self.times: list[float] = []

    def begin(self, data, towers):
        few = replace(data.views, images=data.views.images[:, :FEW], texts=data.views.texts[:, :FEW])
        begin = SimpleNamespace(train=lambda program, data: program.begin(data, towers))  # a trainer that stops there
        self.many.fit(data, data, begin)
        self.few.fit(replace(data, views=few), data, begin)

    def learned(self):
        return ()

    def loss(self, batch, towers, generator):
        self.times.append(time.perf_counter())
        program = self.few if len(self.times) % 2 else self.many
        return program.loss(batch, towers, generator)

    def seconds(self) -> tuple[float, float]:
        """Median seconds per step with many and with few views; the first pair of steps warms up."""
        steps = np.diff(self.times)[2:]  # step i began with call i
        return float(np.median(steps[1::2])), float(np.median(steps[0::2]))


def measure(name: str, data: TrainingSet, encoder: Encoder, steps: int) -> tuple[float, float]:
    """Seconds per step with many and with few views."""
    program = Alternating(name)
    config = TrainerConfig(steps=steps + 3, queries_per_item=QUERIES)
    Trainer(encoder, config, "equal-steps", 0, torch.device("cpu"), lambda title: lambda *_: None).train(program, data)
    return program.seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="steps of each method, many and few views together")
    steps = parser.parse_args().steps
    figures = Figures()
    torch.set_num_threads(1)
    data, encoder = training_set(np.random.default_rng(0)), load_encoder("tiny")
    for name, default in METHODS.items():
        many, few = measure(name, data, encoder, steps or default)
        figures.say(f"{name}: {1000 * many:.1f} ms per step with {MANY} views, {1000 * few:.1f} ms with {FEW}")
        if name == "mean_pooling_all_views":
            figures.say(f"{name}: ratio {many / few:.2f} (reported, no bound)")
        else:
            figures.most(f"{name}: {MANY} views / {FEW} views", many / few, MOST)
    figures.end()


if __name__ == "__main__":
    main()
