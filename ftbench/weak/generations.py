"""The loop over generations: labels, rankers trained on them, their own labels; kept so that a stopped run goes on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ftbench import losses, performance
from ftbench.batches import Targets, TrainingSet
from ftbench.errors import RunError
from ftbench.files import write_atomic
from ftbench.labels import WeakLabels, label, merged, read_labels
from ftbench.method import Method
from ftbench.settings import TrainerConfig
from ftbench.trainer import Meter, Towers, Trained, Trainer
from ftbench.weak.labellers import (
    SPLITS,
    Opinion,
    agreement,
    cost_of,
    count,
    gains_of,
    identity_of,
    judged,
    library_sha256,
    observed_of,
    scores_of,
    shuffled,
    weak_labeller,
)  # fmt: skip

_LEARNED = "beside the towers "  # begins the names of what a kept ranker learned so


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
        self.latest: dict[str, Trained] = {}
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
        pool = [self._weak_of(spec) for spec in self.config.labellers]
        self.weak = self._together(pool)
        judge, self.judge = self._judge(), None
        if judge:
            self.judge = judge.valid
        known = self.judge.labelled.any() if judge else gains_of(self.data["valid"])
        if not self.form.keeps and not known:
            raise RunError(
                "this form chooses labellers by validation queries, and neither the judge nor a judgement knows any. "
                "Try a form without a choice: --method gws_joint"
            )
        if self.config.stop and not self.weak.valid.labelled.any() and not self.data["valid"].judgements:
            raise RunError(
                "stop=true looks at what is observed of validation queries, and the labeller labels none of them. "
                "Leave it out: --set stop=false"
            )
        stages, served, best = [], {}, -np.inf
        for generation in range(1, self.config.generations + 1):
            made = {}
            for role in self._roles(generation):
                teachers = pool if generation == 1 else list(self.form.teachers(role, pool, self))
                made[role], stage = self._ranker(generation, role, teachers)
                stages.append(stage)
            pool = [*pool, *made.values()]
            reached = stages[-len(made)].told["criterion"]
            if self.config.stop and reached <= best:
                break
            served, best = made, reached
        trained = [one.trained for one in [*pool, *([judge] if judge else [])] if one.trained]
        first = served["ranker"]
        whole = replace(
            first.trained,
            meter=_sum_of([one.meter for one in trained]),
            steps=sum(one.steps for one in trained),
            seconds=sum(one.seconds for one in trained),
            adaptations=tuple(dict.fromkeys(line for one in trained for line in one.adaptations)),
            stages=tuple(stages),
        )
        return served | {"ranker": replace(first, trained=whole)}

    def _roles(self, generation: int) -> tuple[str, ...]:
        """The rankers of a generation. Of the last one only those that are served: nobody learns from the others."""
        last = generation == self.config.generations and self.config.serve == "ranker"
        return self.form.roles[:1] if last else self.form.roles

    # --- labels

    def _weak_of(self, spec: str) -> Opinion:
        """A weak labeller's opinion."""
        method, trained = self._as_it_comes(spec)
        lists = [self._lists(f"weak-{_file_name(spec)}", method, trained, split) for split in SPLITS]
        if self.config.shuffled:
            lists = [shuffled(one, self.config.shuffled, self.trainer.seed) for one in lists]
        if not lists[0].labelled.any():
            raise RunError(
                f"the labeller {spec} scores all items alike for each of the {len(lists[0]):,} training queries: "
                "there is nothing to learn from. Try another labeller."
            )
        return Opinion(spec, 0, "weak", method, trained, *lists)

    def _as_it_comes(self, spec: str) -> tuple[Method, Trained | None]:
        """A labeller, with the encoder's own weights where it is one that could be trained."""
        method = weak_labeller(spec)
        return method, method.fit(*self.data.values(), replace(self.trainer, zero_shot=True))

    def _judge(self) -> Opinion | None:
        """Whose lists of validation queries a form that chooses labellers goes by; None where judgements do that."""
        if self.form.keeps or self.data["valid"].judgements:
            return None
        method, trained = self._as_it_comes(self.config.judge)
        valid = self._lists(f"judge-{_file_name(self.config.judge)}", method, trained, "valid")
        return Opinion(self.config.judge, 0, "judge", method, trained, valid, valid)

    def _lists(
        self, name: str, method, trained: Trained | None, split: str, scores: Callable | None = None
    ) -> WeakLabels:
        """A labeller's lists of a split, found again where they were kept. scores: `scores_of` it, where known."""
        data, k = self.data[split], self.config.top
        identity = identity_of(method, trained, data, k)
        path = self.trainer.folder and self.trainer.folder / f"{name}-{split}.npz"
        found = read_labels(path, identity) if path else None
        if found is None:
            if scores is None and data.query_texts:
                scores = scores_of(method, trained, data, self.trainer)
            found = label(method.name, identity, scores, data.query_texts, len(data.item_ids), k)
            if path:
                found.write(path)
        if trained:
            count(trained, data)
        return found

    def _together(self, opinions: Sequence[Opinion]) -> Opinion:
        """The mean of some opinions as one."""
        if len(opinions) == 1:
            return opinions[0]
        lists = [self.mean([(getattr(one, split), 1 / len(opinions)) for one in opinions], split) for split in SPLITS]
        return Opinion(" + ".join(one.name for one in opinions), 0, "weak", None, None, *lists)

    def labels(self, teachers: Sequence[Opinion]) -> WeakLabels:
        """What a ranker learns from its teachers and, unless the form chose them all, the weak labels: from 0 to 1 per
        query; the log odds of the posterior where the labels are mixed so (without a constant)."""
        lists = [one.train for one in teachers]
        if not self.form.keeps or any(one.generation == 0 for one in teachers):
            return self.mean([(own, 1 / len(lists)) for own in lists], "train")
        observed = self.weak.train.normalised()
        if self.config.mix == "posterior":
            given = [(observed, self.config.strength)]
            given += [(own.above_the_rest(), 1 / len(lists)) for own in lists]
            return self._added(given, "train")
        rest = (1 - self.config.keep) / len(lists)
        return self.mean([(observed, self.config.keep), *((own, rest) for own in lists)], "train")

    def mean(self, given: Sequence[tuple[WeakLabels, float]], split: str) -> WeakLabels:
        """Lists by their shares, each from 0, what is not on it, to 1, its first; from 0 to 1 again."""
        return self._added([(own.above_the_rest().normalised(), share) for own, share in given], split).normalised()

    def _added(self, given: Sequence[tuple[WeakLabels, float]], split: str) -> WeakLabels:
        lists, shares = zip(*given, strict=True)
        return merged(lists, shares, self.data[split].query_texts, self.config.top)

    def _targets(self, teachers: Sequence[Opinion]) -> Targets:
        labels, config = self.labels(teachers), self.config
        posterior = config.mix == "posterior" and not any(one.generation == 0 for one in teachers)
        temperature = 1.0 if posterior else config.temperature
        weights = labels.labelled.astype(np.float64)
        if config.importance != "none" or config.drop:
            name = "nqc" if config.importance == "none" else config.importance
            queries = self.data["train"].query_texts
            values = [performance.predict(name, one.train, queries, self.documents) for one in teachers]
            values = sum(own / max(own.mean(), 1e-12) for own in values)  # each labeller in units of its own mean
            weights = performance.importance(values, labels.labelled, config.clip, config.drop)
        return Targets(labels, weights.astype(np.float32), temperature, _loss(config.loss, temperature))

    # --- how good labellers are, without judgements

    def agreement(self, chosen: Sequence[Opinion]) -> float:
        """How good the mean of some labellers is, from 0 to 1, on the validation queries, which no ranker has seen:
        ndcg@10 by judgements where a person gave them; else by the judge's labels, which nobody learns from, queries
        weighted by their predicted performance (nqc of the judge's lists). An item counts by how far the judge has it
        above the last on its list, since all items of a long list score alike against the collection's lowest."""
        valid = self.data["valid"]
        lists = self.mean([(one.valid, 1 / len(chosen)) for one in chosen], "valid")
        if valid.judgements:
            return judged(lists, valid)
        values = agreement(lists, self.judge.above_the_rest())
        known = ~np.isnan(values)
        weights = performance.importance(
            performance.predict("nqc", self.judge, valid.query_texts), known, self.config.clip
        )
        return float((weights[known] * values[known]).mean()) if known.any() else 0.0

    def _criterion(self, opinion: Opinion, observed: float | None) -> float:
        """What a generation must improve: ndcg@10 by judgements where there are any, else what was observed."""
        valid = self.data["valid"]
        return judged(opinion.valid, valid) if valid.judgements else observed

    # --- rankers

    def _ranker(self, generation: int, role: str, teachers: Sequence[Opinion]) -> tuple[Opinion, Stage]:
        """A ranker trained on its teachers' labels, and its own labels."""
        method, name = copy(self.form.rankers[role]), f"{role}-{generation}"
        targets = self._targets(teachers)
        settings, initial = self._share(), self._initial(generation, role)
        state = _digest(targets, settings, initial)
        train = replace(self.data["train"], targets=targets)
        trained = self._found(name, state, method, train)
        if trained is None:
            trained = method.fit(train, self.data["valid"], replace(self.trainer, config=settings, initial=initial))
            self._keep(name, state, method, trained)
        self.latest[role] = trained
        scores = {split: scores_of(method, trained, self.data[split], self.trainer)
                  for split in SPLITS if self.data[split].query_texts}  # fmt: skip
        observed = {split: observed_of(own, len(self.data[split].item_ids), getattr(self.weak, split),
                                       self.config.strength) for split, own in scores.items()}  # fmt: skip
        # nobody learns from the last generation
        last = generation == self.config.generations
        train = self.weak.train if last else self._lists(name, method, trained, "train", scores["train"])
        valid = self._lists(name, method, trained, "valid", scores.get("valid"))
        opinion = Opinion(name, generation, role, method, trained, train, valid)
        told = {
            "generation": generation, "role": role, "method": method.name, "labels": [one.name for one in teachers],
            "unlabelled": int((~targets.labels.labelled).sum()), "observed": observed["train"],
            "criterion": self._criterion(opinion, observed.get("valid")),
        }  # fmt: skip
        return opinion, Stage(method, trained, told)

    def _share(self) -> TrainerConfig:
        """The trainer's settings of one training: an equal share of the run's budget, less what all labelling takes."""
        config, last = self.trainer.config, self.config.generations
        trainings = sum(len(self._roles(generation)) for generation in range(1, last + 1))
        train, valid = (cost_of(self.data[split], self.trainer.encoder) for split in SPLITS)
        dense = sum(weak_labeller(spec).trained for spec in self.config.labellers)
        looks = trainings + dense + (self.judge is not None and weak_labeller(self.config.judge).trained)
        labelling = (trainings - len(self._roles(last)) + dense) * train + looks * valid
        budget, fewer = (config.budget - labelling) / trainings, "or take fewer generations (--set generations=1)."
        by_steps = self.trainer.board == "equal-steps" or self.trainer.encoder.locked
        if by_steps and 0 < config.steps < trainings:
            raise RunError(
                f"{config.steps} steps are for {trainings} trainings, less than one each. Give more (--set "
                f"trainer.steps={100 * trainings}) {fewer}"
            )
        if not by_steps and config.budget and budget <= 0:
            raise RunError(
                f"a budget of {config.budget:,.0f} is for {trainings} trainings, and labelling takes {labelling:,.0f} "
                f"of it. Give more (--set trainer.budget={4 * labelling:.0f}) {fewer}"
            )
        return replace(config, budget=max(budget, 0.0), steps=config.steps // trainings)

    def _initial(self, generation: int, role: str) -> dict[str, torch.Tensor] | None:
        """The weights that a ranker begins with; None: the encoder's own."""
        if generation == 1 or self.config.start == "foundation":
            return None
        return {name: value.cpu() for name, value in self.latest[role].model.state_dict().items()}

    # --- what is kept, so that a stopped run goes on

    def _found(self, name: str, state: str, method, train: TrainingSet) -> Trained | None:
        """A ranker that was trained before the run was stopped, from the same state; None where there is none. What it
        learned beside the towers is made as at a training's begin, then set."""
        folder, trainer = self.trainer.folder, self.trainer
        if folder is None or not (folder / f"{name}.json").is_file():
            return None
        try:
            told = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            if told["state"] != state:
                return None
            tensors, model = load_file(folder / f"{name}.safetensors"), trainer.start()[0]
            learned = [tensors.pop(key) for key in sorted(tensors) if key.startswith(_LEARNED)]
            model.load_state_dict(tensors)
            meter = Meter(**told["meter"])
            curve = tuple((int(step), float(loss)) for step, loss in told["curve"])
            found = Trained(model.eval(), meter, told["steps"], told["seconds"], curve, tuple(told["adaptations"]))
            if learned:
                towers = Towers(model, trainer.encoder, trainer.device, replace(meter))
                towers.open(train, trainer.progress("Reading features"))
                with torch.no_grad():
                    method.begin(train, towers)
                    for own, value in zip(method.learned(), learned, strict=True):
                        own.copy_(value)
            return found
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
            return None

    def _keep(self, name: str, state: str, method, trained: Trained) -> None:
        """Keep a ranker: its towers and what it learned beside them."""
        folder = self.trainer.folder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors = dict(trained.model.state_dict())
        tensors |= {f"{_LEARNED}{place:04}": value for place, value in enumerate(method.learned())}
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        write_atomic(folder / f"{name}.safetensors", save(tensors))
        told = {key: getattr(trained, key) for key in ("steps", "seconds", "curve", "adaptations")}
        told |= {"state": state, "meter": asdict(trained.meter)}
        write_atomic(folder / f"{name}.json", json.dumps(told).encode())


def _digest(targets: Targets, settings: TrainerConfig, initial: dict[str, torch.Tensor] | None) -> str:
    """The SHA-256 of what a training depends on besides the run: labels, weights of queries, settings, first weights,
    and the library itself."""
    told = [library_sha256(), targets.labels.identity, targets.temperature, asdict(settings)]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(targets.weights.tobytes())
    for name, tensor in sorted((initial or {}).items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _file_name(spec: str) -> str:
    return spec.replace("/", "_").replace(":", "_")


def _loss(name: str, temperature: float) -> Callable:
    """A ranking loss of logits, their scale and labels, by the name that settings give it."""
    if name == "listwise":
        return lambda logits, scale, labels: losses.listwise_cross_entropy(
            logits, labels.masked_fill(labels <= 0, -torch.inf), temperature
        )
    if name == "pairwise":
        return lambda logits, scale, labels: losses.pairwise_logistic(logits, labels)
    return lambda logits, scale, labels: losses.score_regression(logits / scale, labels)


def _sum_of(meters: Sequence[Meter]) -> Meter:
    """What several models cost in all."""
    whole = replace(meters[0])
    for meter in meters[1:]:
        whole.image_passes += meter.image_passes
        whole.text_passes += meter.text_passes
        whole.training_items += meter.training_items
        whole.flops += meter.flops
    return whole
