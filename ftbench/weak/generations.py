"""The loop over generations: labels, rankers trained on them, their own labels; kept so that a stopped run goes on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ftbench import losses, performance
from ftbench.batches import Targets, TrainingSet
from ftbench.errors import RunError
from ftbench.files import write_atomic
from ftbench.labels import WeakLabels, merged
from ftbench.settings import TrainerConfig
from ftbench.trainer import FORWARD_PASS, Meter, Trained, Trainer
from ftbench.weak.labellers import Opinion, agreement, ask, dcg, identity_of, shuffled, weak_labeller

_SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Stage:
    """A generation's ranker, for the harness to measure. told: what its record says of it, JSON values."""

    method: object
    trained: Trained
    told: dict


class Generations:
    """One fit of a form of weak supervision."""

    def __init__(self, form, train: TrainingSet, valid: TrainingSet, trainer: Trainer):
        self.form, self.config, self.trainer = form, form.config, trainer
        self.data = {"train": train, "valid": valid}
        self._latest: dict[str, Trained] = {}
        if not train.query_texts:
            raise RunError(
                "the training split has no queries, and weak supervision labels queries. Try another data set."
            )
        texts = train.views.assets.texts
        self.documents = [
            [word for i in row if i >= 0 for word in texts[i].lower().split()] for row in train.views.texts
        ]

    def run(self) -> dict[str, Opinion]:
        """What to serve: the rankers by role. The first one's `trained` has the cost and the stages of all."""
        weak = self._weak()
        pool, stages, served, best = [weak], [], {}, -np.inf
        for generation in range(1, self.config.generations + 1):
            made = {}
            for role in self.form.roles:
                teachers = [weak] if generation == 1 else list(self.form.teachers(role, pool, self))
                made[role], stage = self._ranker(generation, role, weak, teachers)
                stages.append(stage)
            pool += made.values()
            reached = stages[-len(made)].told["criterion"]
            if self.config.stop and reached <= best:
                break
            served, best = made, reached
        trained = [one.trained for one in pool if one.trained]
        first = served["ranker"]
        whole = replace(
            first.trained,
            meter=_together([one.meter for one in trained]),
            steps=sum(one.steps for one in trained),
            seconds=sum(one.seconds for one in trained),
            adaptations=tuple(dict.fromkeys(line for one in trained for line in one.adaptations)),
            stages=tuple(stages),
        )
        return served | {"ranker": replace(first, trained=whole)}

    # --- labels

    def _weak(self) -> Opinion:
        """The weak labeller's opinion: that of one method, or the mean of several."""
        found = [self._weak_of(spec) for spec in self.config.labeller.split("+")]
        if len(found) == 1:
            return found[0]
        lists = [self.mean([(getattr(one, split), 1 / len(found)) for one in found], split) for split in _SPLITS]
        return Opinion(self.config.labeller, 0, "weak", None, None, *lists)

    def _weak_of(self, spec: str) -> Opinion:
        method, trained = weak_labeller(spec), None
        if method.trained:  # as it comes, with the encoder's own weights
            trained = method.fit(*self.data.values(), replace(self.trainer, zero_shot=True))
        lists = []
        for split in _SPLITS:
            identity = identity_of(method, split, self.config.top)
            lists.append(ask(method, trained, self.data[split], self.trainer, self.config.top, identity)[0])
        if self.config.shuffled:
            lists = [shuffled(one, self.config.shuffled, self.trainer.seed) for one in lists]
        if not lists[0].labelled.any():
            raise RunError(
                f"the labeller {spec} scores all items alike for each of the {len(lists[0]):,} training queries: "
                "there is nothing to learn from. Try another labeller."
            )
        return Opinion(spec, 0, "weak", method, trained, *lists)

    def labels(self, weak: Opinion, teachers: Sequence[Opinion], split: str = "train") -> WeakLabels:
        """What a ranker learns from its teachers and the weak labels: from 0 to 1 per query; the log odds of the
        posterior where the labels are mixed so (without a constant)."""
        lists = [getattr(one, split) for one in teachers]
        if weak in teachers:
            return self.mean([(own, 1 / len(lists)) for own in lists], split)
        observed = getattr(weak, split).normalised()
        if self.config.mix == "posterior":
            return self._sum([(observed, self.config.strength), *((own, 1 / len(lists)) for own in lists)], split)
        rest = (1 - self.config.keep) / len(lists)
        return self.mean([(observed, self.config.keep), *((own, rest) for own in lists)], split)

    def mean(self, given: Sequence[tuple[WeakLabels, float]], split: str) -> WeakLabels:
        """Lists, each from 0 to 1 per query, by their shares; from 0 to 1 again."""
        return self._sum([(own.normalised(), share) for own, share in given], split).normalised()

    def _sum(self, given: Sequence[tuple[WeakLabels, float]], split: str) -> WeakLabels:
        lists, shares = zip(*given, strict=True)
        return merged(lists, shares, self.data[split].query_texts, self.config.top)

    def _targets(self, weak: Opinion, teachers: Sequence[Opinion]) -> Targets:
        labels, config = self.labels(weak, teachers), self.config
        posterior = config.mix == "posterior" and weak not in teachers
        temperature = 1.0 if posterior else config.temperature
        weights = labels.labelled.astype(np.float64)
        if config.importance != "none" or config.drop:
            name = "nqc" if config.importance == "none" else config.importance
            values = performance.predict(name, labels, self.data["train"].query_texts, self.documents)
            weights = performance.importance(values, labels.labelled, config.clip, config.drop)
        return Targets(labels, weights.astype(np.float32), temperature, _loss(config.loss, temperature))

    def criterion(self, weak: Opinion, opinions: Sequence[Opinion]) -> float:
        """How good some labellers' mean is on the validation queries, from 0 to 1: with judgements its ndcg@10, without
        the geometric mean of its agreement with the weak labels, which no ranker has seen, and of its predicted
        performance, the entropy of its scores."""
        valid = self.data["valid"]
        lists = self.mean([(one.valid, 1 / len(opinions)) for one in opinions], "valid")
        if valid.judgements:
            return _judged(lists, valid)
        agreed = agreement(lists, weak.valid)
        if np.isnan(agreed).all():
            return 0.0
        predicted = performance.predict("entropy", lists, valid.query_texts)
        return float(np.sqrt(np.nanmean(agreed) * predicted.mean()))

    # --- rankers

    def _ranker(self, generation: int, role: str, weak: Opinion, teachers: Sequence[Opinion]) -> tuple[Opinion, Stage]:
        """A ranker trained on its teachers' labels, and its own."""
        method, name = self.form.rankers[role], f"{role}-{generation}"
        targets = self._targets(weak, teachers)
        trained = self._found(name)
        if trained is None:
            trained = method.fit(
                replace(self.data["train"], targets=targets), self.data["valid"],
                replace(self.trainer, config=self._share(generation), initial=self._initial(generation, role)),
            )  # fmt: skip
            self._keep(name, method, trained)
        self._latest[role] = trained
        lists, observed = {}, None
        for split in _SPLITS if generation < self.config.generations else _SPLITS[1:]:
            identity = identity_of(method, name, split, self.config.top)
            evidence = getattr(weak, split).normalised() if split == "train" else None
            lists[split], value = ask(
                method, trained, self.data[split], self.trainer, self.config.top, identity, evidence,
                self.config.strength,
            )  # fmt: skip
            observed = value if split == "train" else observed
        opinion = Opinion(name, generation, role, method, trained, lists.get("train", weak.train), lists["valid"])
        told = {
            "generation": generation, "role": role, "method": method.name, "labels": [one.name for one in teachers],
            "unlabelled": int((targets.weights == 0).sum()), "observed": observed,
            "criterion": self.criterion(weak, [opinion]),
        }  # fmt: skip
        return opinion, Stage(method, trained, told)

    def _share(self, generation: int) -> TrainerConfig:
        """The trainer's settings of one training: an equal share of the run's budget, less what labelling the training
        split takes where a generation follows."""
        config, count = self.trainer.config, self.config.generations * len(self.form.roles)
        budget = config.budget / count
        if generation < self.config.generations:
            budget -= self._labelling()
        if config.budget and budget <= 0:
            raise RunError(
                f"a budget of {config.budget:,.0f} is {config.budget / count:,.0f} for each of {count} trainings, and "
                f"labelling takes {self._labelling():,.0f} of it. Give more (--set trainer.budget="
                f"{4 * count * self._labelling():.0f}) or take fewer generations (--set generations=1)."
            )
        return replace(config, budget=max(budget, 0.0), steps=config.steps // count)

    def _labelling(self) -> float:
        """Forward-equivalents of one look at all training views and queries."""
        train, encoder = self.data["train"], self.trainer.encoder
        if not encoder.image_flops:
            return 0.0
        texts = (train.views.texts >= 0).sum() + len(train.query_texts)
        return float(
            FORWARD_PASS * ((train.views.images >= 0).sum() + texts * encoder.text_flops / encoder.image_flops)
        )

    def _initial(self, generation: int, role: str) -> dict[str, torch.Tensor] | None:
        """The weights that a ranker begins with; None: the encoder's own."""
        if generation == 1 or self.config.start == "foundation":
            return None
        return {name: value.cpu() for name, value in self._latest[role].model.state_dict().items()}

    # --- what is kept, so that a stopped run goes on

    def _found(self, name: str) -> Trained | None:
        """A ranker that was trained before the run was stopped; None where there is none, or where its method learns
        more than the towers, which is not kept."""
        folder = self.trainer.folder
        if folder is None or not (folder / f"{name}.json").is_file():
            return None
        try:
            told = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            model = self.trainer.encoder.build(self.trainer.seed)
            model.load_state_dict(load_file(folder / f"{name}.safetensors"))
        except (OSError, ValueError, RuntimeError, SafetensorError):
            return None
        curve = tuple((int(step), float(loss)) for step, loss in told["curve"])
        return Trained(model.to(self.trainer.device).eval(), Meter(**told["meter"]), told["steps"], told["seconds"],
                       curve, tuple(told["adaptations"]))  # fmt: skip

    def _keep(self, name: str, method, trained: Trained) -> None:
        folder = self.trainer.folder
        if folder is None or tuple(method.learned()):
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.detach().cpu().contiguous() for key, value in trained.model.state_dict().items()}
        write_atomic(folder / f"{name}.safetensors", save(tensors))
        told = {key: getattr(trained, key) for key in ("steps", "seconds", "curve", "adaptations")}
        write_atomic(folder / f"{name}.json", json.dumps(told | {"meter": asdict(trained.meter)}).encode())


def _loss(name: str, temperature: float) -> Callable:
    """A ranking loss of logits, their scale and labels, by the name that settings give it."""
    if name == "listwise":
        return lambda logits, scale, labels: losses.listwise_cross_entropy(logits, labels, temperature)
    if name == "pairwise":
        return lambda logits, scale, labels: losses.pairwise_logistic(logits, labels)
    return lambda logits, scale, labels: losses.score_regression(logits / scale, labels)


def _judged(lists: WeakLabels, valid: TrainingSet) -> float:
    """ndcg@10 of lists by a validation split's judgements, the mean over the queries that have any."""
    queries = {query: i for i, query in enumerate(valid.query_ids)}
    items = {item: i for i, item in enumerate(valid.item_ids)}
    gains: dict[int, dict[int, float]] = {}
    for one in valid.judgements:
        if one.gain > 0 and one.query_id in queries and one.item_id in items:
            gains.setdefault(queries[one.query_id], {})[items[one.item_id]] = one.gain
    found = []
    for query, own in gains.items():
        ranked = [own.get(int(item), 0.0) for item in lists.items[query]]
        found.append(dcg(ranked) / dcg(sorted(own.values(), reverse=True)))
    return float(np.mean(found)) if found else 0.0


def _together(meters: Sequence[Meter]) -> Meter:
    """What several models cost in all."""
    whole = replace(meters[0])
    for meter in meters[1:]:
        whole.image_passes += meter.image_passes
        whole.text_passes += meter.text_passes
        whole.training_items += meter.training_items
        whole.flops += meter.flops
    return whole
