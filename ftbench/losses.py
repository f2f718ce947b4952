"""Contrastive losses: pure functions on tensors, each giving a scalar to minimise.

Row i's positive is column i. `same` (b, g) marks pairs that match although they are not on the diagonal (the same
query twice in a batch, two texts of one group): either left out of the negatives or counted as further positives.
Must not know encoders, views' weights, the optimiser or data sets.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ftbench.errors import RunError


@dataclass(frozen=True, slots=True)
class SampledViews:
    """One modality of a batch as it was encoded: primary (b, d), the sampled auxiliary (b, d), primary share (b,).

    A share of 1 says that the item has no auxiliary view: its row of `auxiliary` is then neither probe nor negative.
    """

    primary: Tensor
    auxiliary: Tensor
    share: Tensor


def info_nce(logits: Tensor, same: Tensor | None = None) -> Tensor:
    """Mean over rows of -log softmax(logits)[i, i] (van den Oord et al. 2018, eq. 4).

    logits: (b, g) float with g >= b, already divided by the temperature; columns from b on are extra negatives.
    same: (b, g) bool, pairs left out of the negatives; the diagonal always stays. Returns a scalar.
    """
    return _rows(logits, same).mean()


def multi_positive_info_nce(logits: Tensor, same: Tensor) -> Tensor:
    """InfoNCE with several positives per row: -mean_{p in P(i)} log softmax(logits)[i, p], averaged over rows.

    Khosla et al. 2020, eq. 2 (the mean outside the logarithm). P(i) is the diagonal and every column that `same`
    (b, g) bool marks. logits: (b, g) float, g >= b. Returns a scalar; equals info_nce where `same` is empty.
    """
    positive = (same | _diagonal(logits)).to(logits.dtype)
    log_p = logits.log_softmax(1)  # (b, g)
    return -((log_p * positive).sum(1) / positive.sum(1)).mean()


def symmetric_info_nce(x: Tensor, y: Tensor, scale: Tensor | float, same: Tensor | None = None) -> Tensor:
    """Half x -> y and half y -> x InfoNCE of the inner products (Radford et al. 2021, figure 3).

    x, y: (b, d) float, used as given (normalise before if cosine is meant). scale: 1 / temperature.
    same: (b, b) bool, false negatives to leave out, [i, j] for x_i with y_j. Returns a scalar.
    """
    rows, columns = _both_ways(x, y, scale, same)
    return (rows.mean() + columns.mean()) / 2


def block_info_nce(x: SampledViews, y: SampledViews, scale: Tensor | float, same: Tensor | None = None) -> Tensor:
    """Four symmetric InfoNCE terms, weighted by the four blocks of each item's plan a b^T.

    With primary shares a0 and b0 the blocks of item i are primary-primary a0 b0, primary-auxiliary a0 (1 - b0),
    auxiliary-primary (1 - a0) b0, auxiliary-auxiliary (1 - a0)(1 - b0); they sum to 1, so the loss is a mean over
    items on the scale of one InfoNCE. Items without an auxiliary view neither probe nor serve as negatives there.
    scale: 1 / temperature. same: (b, b) bool, false negatives to leave out, [i, j] for x_i with y_j. Returns a scalar.
    """
    total = x.primary.new_zeros(())
    for x_view, x_weight, x_there in _sides(x):
        for y_view, y_weight, y_there in _sides(y):
            rows, columns = _both_ways(x_view, y_view, scale, same, ~x_there, ~y_there)
            # a probe that does not exist has weight 0, so its row adds nothing
            total = total + (x_weight * y_weight * (rows + columns)).mean() / 2
    return total


def all_pairs_info_nce(x: Tensor, y: Tensor, a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of every slot pair (m, n), weighted by each item's plan a_m b_n: block_info_nce of any slots.

    x: (k, m, d), y: (k, n, d) float, views of k items by slot. a: (k, m), b: (k, n), each row of weights summing to 1
    over the views that exist, 0 elsewhere: what does not exist neither probes nor serves as a negative.
    scale: 1 / temperature. Returns a scalar, the mean over items. Raises RunError where the shapes do not fit.
    """
    if x.ndim != 3 or y.ndim != 3 or a.shape != x.shape[:2] or b.shape != y.shape[:2] or len(x) != len(y):
        given = ", ".join(str(tuple(t.shape)) for t in (x, y, a, b))
        raise RunError(f"all pairs: shapes {given} given, expected (k, m, d), (k, n, d), (k, m) and (k, n).")
    logits = scale * torch.einsum("imd,jnd->imjn", x, y)  # (k, m, d), (k, n, d) -> (k, m, k, n)
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)[:, None, :, None]
    # an item's own pair stays, so that no row is empty; where it does not exist its weight is 0
    forward = logits.masked_fill((b == 0)[None, None] & ~own, -torch.inf).logsumexp(2)  # (k, m, n)
    backward = logits.masked_fill((a == 0)[:, :, None, None] & ~own, -torch.inf).logsumexp(0).transpose(0, 1)
    positive = logits.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (m, n, k) -> (k, m, n)
    plan = a.unsqueeze(-1) * b.unsqueeze(-2)
    return (plan * (forward + backward - 2 * positive)).sum() / (2 * len(x))


def sigmoid_loss(logits: Tensor, same: Tensor | None = None) -> Tensor:
    """Mean over rows of the sum over columns of -log sigmoid(z_ij logits_ij), z = 1 on the diagonal, -1 elsewhere.

    Zhai et al. 2023, equation 1. logits: (b, g) float with g >= b, scaled and with the bias added. same: (b, g) bool,
    pairs left out of the negatives; the diagonal always stays. Returns a scalar. Raises RunError for other shapes.
    """
    _check(logits)
    own = _diagonal(logits)
    terms = -F.logsigmoid(torch.where(own, logits, -logits))
    if same is not None:
        terms = terms.masked_fill(same & ~own, 0.0)
    return terms.sum(1).mean()


def continuous_weights(vectors: Tensor, sharpness: float | None = None) -> Tensor:
    """How much each item counts as a positive of each other, by cosine: vectors (b, d) float -> (b, b) in [0, 1].

    (1 + cos) / 2 (Srinivasa et al. 2023, section 3), or with a sharpness exp(sharpness (cos - 1)): normalised over a
    row, that is a softmax. 1 on the diagonal, without gradient. A zero row has cosine 0 with the others.
    """
    unit = F.normalize(vectors.detach(), dim=-1)
    cosine = unit @ unit.T  # (b, d) @ (d, b) -> (b, b)
    cosine = torch.where(_diagonal(cosine), 1.0, cosine).clamp(-1, 1)
    return (1 + cosine) / 2 if sharpness is None else (sharpness * (cosine - 1)).exp()


def weighted_info_nce(logits: Tensor, weights: Tensor, same: Tensor | None = None) -> Tensor:
    """Continuously weighted InfoNCE: mean over rows of -sum_j w_ij log softmax(logits)[i, j] / sum_j w_ij.

    Srinivasa et al. 2023, section 3. logits: (b, g) float, g >= b; weights: (b, g) float >= 0, positive on the
    diagonal. same: (b, g) bool, pairs left out of softmax and positives; the diagonal always stays. Returns a scalar;
    equals info_nce where the weights are the identity. Raises RunError for other shapes.
    """
    _check(logits)
    if weights.shape != logits.shape:
        raise RunError(
            f"weighted InfoNCE: weights of shape {tuple(weights.shape)} given, expected {tuple(logits.shape)}, "
            "one for each of the logits."
        )
    left_out = torch.zeros_like(weights, dtype=torch.bool) if same is None else same & ~_diagonal(logits)
    weights = weights.masked_fill(left_out, 0.0)
    log_p = logits.masked_fill(left_out, -torch.inf).log_softmax(1).masked_fill(left_out, 0.0)
    return -((weights * log_p).sum(1) / weights.sum(1)).mean()


def listwise_cross_entropy(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of a row's logits from its softened labels: -sum_j softmax(labels / temperature)_j
    log softmax(logits)_j (Cao et al. 2007, ListNet, top-one probabilities).

    logits, labels: (b, g) float, a label -inf where an item has none: it is in the model's softmax alone. temperature:
    > 0, in units of the labels. Returns (b,), one loss per row, 0 for a row without labels. Raises RunError where the
    shapes differ.
    """
    _check_labels(logits, labels)
    labels = labels.masked_fill(labels.isneginf().all(1, keepdim=True), -1e9)
    none = (labels == -1e9).all(1)
    return torch.where(none, 0.0, -((labels / temperature).softmax(1) * logits.log_softmax(1)).sum(1))


def pairwise_logistic(logits: Tensor, labels: Tensor) -> Tensor:
    """Logistic loss of a row's pairs, each by how far its labels are apart: the mean of log(1 + exp(z_j - z_i)) over
    pairs with l_i > l_j, weighted by l_i - l_j (Burges et al. 2005, RankNet; the weights are ours).

    logits z, labels l: (b, g) float. Returns (b,), 0 for a row whose labels are all alike. Raises RunError where the
    shapes differ.
    """
    _check_labels(logits, labels)
    apart = (labels[:, :, None] - labels[:, None]).clamp(min=0)  # (b, g, g)
    terms = F.softplus(logits[:, None] - logits[:, :, None])  # [i, j]: z_j - z_i
    return (apart * terms).sum((1, 2)) / apart.sum((1, 2)).clamp(min=1e-9)


def score_regression(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean squared difference of a row's scores and labels, both (b, g) float -> (b,) (Dehghani et al. 2017, the score
    model). Raises RunError where the shapes differ."""
    _check_labels(scores, labels)
    return ((scores - labels) ** 2).mean(1)


def _check_labels(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape:
        raise RunError(
            f"a ranking loss: logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)} given, "
            "expected (b, g) both."
        )


def _sides(views: SampledViews) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(vectors (b, d), plan weight (b,), exists (b,) bool) of the primary and the auxiliary side."""
    share = views.share.to(views.primary.dtype)
    return [
        (views.primary, share, torch.ones_like(share, dtype=torch.bool)),
        (views.auxiliary, 1 - share, share < 1),
    ]


def _both_ways(
    x: Tensor, y: Tensor, scale: Tensor | float, same: Tensor | None, *absent: Tensor
) -> tuple[Tensor, Tensor]:
    """InfoNCE of each x_i among y (b,) and of each y_j among x (b,); absent: x rows, y rows (b,) bool to leave out."""
    logits = scale * (x @ y.T)  # (b, d) @ (d, b) -> (b, b)
    forward = backward = same
    if absent:
        none = torch.zeros_like(logits, dtype=torch.bool) if same is None else same
        forward, backward = none | absent[1], none | absent[0][:, None]
    return _rows(logits, forward), _rows(logits.T, None if backward is None else backward.T)


def _rows(logits: Tensor, left_out: Tensor | None) -> Tensor:
    """-log softmax(logits)[i, i] over the columns not left out: (b, g) -> (b,)."""
    _check(logits)
    if left_out is not None:
        logits = logits.masked_fill(left_out & ~_diagonal(logits), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")


def _check(logits: Tensor) -> None:
    if logits.ndim != 2 or not 0 < len(logits) <= logits.shape[1]:
        raise RunError(
            f"a contrastive loss: logits of shape {tuple(logits.shape)} given, expected (b, g) with 1 <= b <= g: "
            "row i's positive is column i."
        )


def _diagonal(logits: Tensor) -> Tensor:
    return torch.eye(*logits.shape, dtype=torch.bool, device=logits.device)
