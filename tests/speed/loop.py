"""Throughput of the training loop against a bare loop of the same forward, backward and optimiser step.

The bare loop's tensors lie in memory: no reading of images, no sampling, no counting. Both take the same steps from the
same weights, one bare step before each of the trainer's, so that both meet the same machine; the bare steps' time and
that of fetching their tensors are taken off. Data: studio@500, rendered into a temporary folder. Encoder `tiny`, one
thread. Fewer steps for a quick look: python tests/speed/loop.py --steps 5
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from figures import Figures
from torch.nn import functional as F

from ftbench.encoders.base import load_encoder
from ftbench.items import silent
from ftbench.losses import info_nce, symmetric_info_nce
from ftbench.method import load_method
from ftbench.settings import TrainerConfig
from ftbench.sources import source_for
from ftbench.store import prepare
from ftbench.task import load_task, training_sets
from ftbench.trainer import Trainer

LEAST = 0.9
STEPS = 60


class WithBareSteps:
    """single_view_clip for the trainer, its cheapest step, with a bare step of the same work before each of its own."""

    def __init__(self, encoder, config: TrainerConfig):
        self.method, self.config = load_method("single_view_clip"), config
        self.model = encoder.build(0)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        self.bare: list[float] = []
        self.own: list[float] = []

    def begin(self, data, towers):
        self.queries = data.query_texts
        self.method.begin(data, towers)

    def learned(self):
        return self.method.learned()

    def loss(self, batch, towers, generator):
        if self.bare:
            self.own.append(time.perf_counter() - self.left)  # the trainer's step before, fetching its batch included
        tensors = self.tensors(batch, towers)
        started = time.perf_counter()
        bare = self.step(*tensors)
        self.bare.append(time.perf_counter() - started)
        self.left = time.perf_counter()
        loss = self.method.loss(batch, towers, generator)
        if len(self.bare) == 1:  # from the same weights, the same forward
            torch.testing.assert_close(loss.detach(), bare)
        return loss

    def tensors(self, batch, towers):
        """A batch's images, titles and queries as the towers take them, and its false negatives."""
        views = self.method.views
        images = towers.encoder.preprocess(views.assets.pixels(views.images[batch.items, 0]))
        texts = towers.encoder.tokenize([views.assets.texts[i] for i in views.texts[batch.items, 0]])
        queries = towers.encoder.tokenize([self.queries[i] for i in batch.queries.reshape(-1)])
        return images, texts, queries, batch.same

    def step(self, images, texts, queries, same) -> torch.Tensor:
        """Forward, backward and optimiser step, and nothing else. Returns the loss before the step."""
        image, text = self.model.image(images), self.model.text(texts)
        items = F.normalize(F.normalize(image) + F.normalize(text))
        asked = self.model.text(queries).view(*same.shape[:2], -1)
        scale = self.model.logit_scale
        terms = [info_nce(scale * asked[:, k] @ items.T, same[:, k]) for k in range(same.shape[1])]
        aligned = symmetric_info_nce(F.normalize(image), F.normalize(text), scale)
        loss = torch.stack(terms).mean() + self.method.config.alignment_weight * aligned
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    steps = parser.parse_args().steps
    figures = Figures()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        catalogue = prepare(source_for("studio@500"), silent, Path(folder))
        train, _ = training_sets(load_task("query2item", "studio@500"), catalogue, "supervised")
        encoder, config = load_encoder("tiny"), TrainerConfig(steps=steps + 1)
        program = WithBareSteps(encoder, config)
        Trainer(encoder, config, "equal-steps", 0, torch.device("cpu"), lambda title: silent).train(program, train)
    own, bare = np.array(program.own), np.array(program.bare[: len(program.own)])
    figures.say(f"trainer {1000 * np.median(own):.1f} ms per step, bare loop {1000 * np.median(bare):.1f} ms (medians)")
    figures.least("training loop: throughput / bare loop", float(np.median(bare / own)), LEAST)
    figures.end()


if __name__ == "__main__":
    main()
