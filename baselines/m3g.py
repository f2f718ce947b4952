"""M3G, the multi-marginal matching gap (Piran et al., ICML 2024, arXiv 2405.19532): all views of an item at once.

Idea: k views of n items could be put together in n^k ways; the loss is how much more the true tuples cost than the best
entropic matching of all views. Here k is 4: primary image, title and one sampled auxiliary view of each kind.
Differs from the paper: the cost is the mean of 1 - cosine over pairs of views (half their mean squared distance); a
batch is matched in groups of 16, because the cost tensor grows as group^4, so that an item has 15 others to be told
from where the other losses have 63; the gap is in the place of the image-text loss, beside the query loss on the
primary and sampled views' weighted mean. An item without an auxiliary view enters with its primary in that place.
Inference is the mean of all views.
"""

from dataclasses import dataclass

import torch

from ftbench import method
from ftbench.matching import matching_gap
from ftbench.transport import sample_view, sampled_mean
from ftbench.views import view_weights


class Method(method.TwoTower):
    # at an alignment_weight of 0 nothing would be left of it, so that is no choice
    space = method.spaces(
        {"alignment_weight": (0.1, 0.3, 1.0), "epsilon": (0.05, 0.1, 0.2, 0.5), "primary_share": (0.1, 0.25, 0.5)},
        {"epsilon": (0.05, 0.1, 0.2, 0.5)},
    )
    tuned = {
        "supervised": {"epsilon": 0.5},
        "aligned": {"trainer.learning_rate": 0.03, "epsilon": 0.05},
    }

    @dataclass(frozen=True)
    class Config:
        alignment_weight: float = 0.3  # of the matching gap beside the query loss
        epsilon: float = 0.2  # of the entropy, in units of 1 - cosine
        iterations: int = 30  # sweeps over the marginals, at most
        group: int = 16  # items that are matched with each other: cost group^4
        primary_share: float = 0.25  # a_0 and b_0 of the vector that meets queries in training

        def problems(self):
            least = {"iterations": 1, "group": 2}
            found = [f"{k} is {getattr(self, k)}, expected at least {n}" for k, n in least.items()
                     if getattr(self, k) < n]  # fmt: skip
            found += [f"group is {self.group}, expected at most 32 (a million costs)"] if self.group > 32 else []
            ok = self.epsilon >= 0.01  # costs reach 2, and matching takes a range of 300 epsilons
            return found + ([] if ok else [f"epsilon is {self.epsilon}, expected at least 0.01"])

    def loss(self, batch, towers, generator):
        self.tuple = []  # the k views of the batch's items, each (b, d)
        sides = []
        for ids, encode in ((self.views.images, towers.images), (self.views.texts, towers.texts)):
            chosen = ids[batch.items]  # (b, m)
            weights = torch.from_numpy(view_weights(chosen, self.config.primary_share))
            columns = sample_view(weights, generator)  # (b,), -1: no auxiliary
            table = torch.from_numpy(chosen)
            drawn = table.gather(1, columns.clamp(min=0)[:, None])[:, 0]
            primary = encode(chosen[:, 0])  # (b, d)
            auxiliary = encode(torch.where(columns >= 0, drawn, -1).numpy())
            there = (columns >= 0).to(primary.device)
            first = (table[:, 0] >= 0).to(primary.device)
            auxiliary = torch.where(there[:, None], auxiliary, primary)
            self.tuple += [torch.where(first[:, None], primary, auxiliary), auxiliary]
            sides.append(sampled_mean(primary, auxiliary, weights[:, 0].to(primary.device)))
        return self.objective(batch, towers, *sides)

    def alignment(self, batch, towers, image, text):
        """The mean over items of their group's matching gap; an item that lacks images or texts is in no group."""
        both = batch.both.to(image.device)
        views = torch.stack(self.tuple)[:, both]  # (k, b, d)
        count, size = views.shape[1], self.config.group
        whole = count - count % size if count >= size else 0
        gaps = [image.sum() * 0.0]
        for part, groups in ((views[:, :whole], whole // size), (views[:, whole:], 1)):
            if part.shape[1] >= 2:
                shaped = part.unflatten(1, (groups, -1)).transpose(0, 1)  # (k, g * n, d) -> (g, k, n, d)
                gap = matching_gap(shaped, self.config.epsilon, self.config.iterations)
                gaps.append(gap.mean() * (part.shape[1] / count))
        return torch.stack(gaps).sum()
