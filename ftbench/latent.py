"""Weak supervision as expectation–maximisation, the relevant item being latent. Pure functions on tensors.

The model: a query q is about one item z of a collection, drawn from the ranker's p_theta(z | q), the softmax of its
scores. The labeller's scores y of q are observed, and drawn from an emission p(y | z), proportional to
exp(strength * y_z): a relevant item is scored high, and otherwise scores say nothing of z. What is observed has the
likelihood p(y | q) = sum_z p_theta(z | q) p(y | z). The E-step is the posterior of z, which weighs the ranker against
labels that stay observed in every generation; the M-step maximises sum_z posterior(z) log p_theta(z | q), cross-entropy
to soft labels. With both exact the likelihood never falls (Dempster, Laird and Rubin 1977, theorem 1); it need only
rise in the M-step for that (generalised EM). Labels that are cut off at the top k, or made hard, are no posterior:
the guarantee is lost, and `observed` then says how it went.
"""

from torch import Tensor

from ftbench.errors import RunError


def posterior(scores: Tensor, labels: Tensor, strength: float) -> Tensor:
    """E-step: p(z | q, y), (q, n), rows summing to 1, from the ranker's scores (q, n), logits of p_theta, and the
    labeller's scores (q, n). strength: >= 0, what a unit of label is worth in log odds. Raises RunError where the
    shapes differ."""
    _check(scores, labels)
    return (scores + strength * labels).softmax(1)


def observed(scores: Tensor, labels: Tensor, strength: float) -> Tensor:
    """log sum_z p_theta(z | q) exp(strength * y_z), (q,): what EM raises, up to a constant of the emission. Arguments
    and errors as for `posterior`."""
    _check(scores, labels)
    return (scores.log_softmax(1) + strength * labels).logsumexp(1)


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise RunError(
            f"scores of shape {tuple(scores.shape)} and labels of shape {tuple(labels.shape)} given, expected (q, n) "
            "both."
        )
