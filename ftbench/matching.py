"""Matching k views of n items at once: multi-marginal entropic transport and its gap. Pure functions on tensors.

Notation (Piran, Klein, Thornton and Cuturi 2024): view p of items 1..n is x^p (n, d); the cost tensor
C[i_1, ..., i_k] = c(x^1_{i_1}, ..., x^k_{i_k}) has n^k entries; a polymatching P has the same shape and k marginals
1/n. The leading dimension g holds groups of items, each matched by itself. Must not know encoders or training.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ftbench.errors import RunError


def pairwise_costs(views: Tensor) -> Tensor:
    """1 - <x^p_i, x^q_j> of all pairs of views: (g, k, n, d) unit vectors -> (g, k, k, n, n)."""
    return 1 - torch.einsum("gpid,gqjd->gpqij", views, views)


def cost_tensor(pairs: Tensor) -> Tensor:
    """C[i_1, ..., i_k], the mean over pairs p < q of the pair's cost: (g, k, k, n, n) -> (g, n, ..., n), k times n."""
    g, k, n = pairs.shape[0], pairs.shape[1], pairs.shape[-1]
    total = pairs.new_zeros(g, *[1] * k)
    for p in range(k):
        for q in range(p + 1, k):
            shape = [n if axis in (p, q) else 1 for axis in range(k)]
            total = total + pairs[:, p, q].reshape(g, *shape)
    return total * (2 / (k * (k - 1)))


def polymatching(cost: Tensor, epsilon: float, iterations: int = 100, tolerance: float = 1e-3) -> Tensor:
    """The P of marginals 1/n that minimises <P, C> + epsilon KL(P || uniform), group by group.

    Multi-marginal Sinkhorn: one scaling vector per marginal, updated in turn (Benamou et al. 2015, section 4; Piran et
    al. 2024, algorithm 1). cost: (g, n, ..., n), k >= 2 times n. epsilon: > 0, in units of cost. Stops once the
    marginals miss 1/n by at most tolerance / n, else after `iterations` sweeps; the last marginal is exact. In float64,
    which holds exp(-C / epsilon) down to an epsilon of a 300th of the costs' range. Returns the shape of `cost`, in its
    dtype, without gradient. Raises RunError for an epsilon or iterations that are not positive, or that epsilon limit.
    """
    if not epsilon > 0 or iterations < 1:
        raise RunError(f"polymatching: epsilon {epsilon} and iterations {iterations} given, both must be positive.")
    g, n, k = cost.shape[0], cost.shape[1], cost.ndim - 1
    wide = cost.detach().double()
    wide = wide - wide.reshape(g, -1).min(1).values.reshape(g, *[1] * k)
    if float(wide.max()) > 300 * epsilon:
        raise RunError(
            f"polymatching: epsilon {epsilon} is less than a 300th of the costs' range, {float(wide.max()):.2g}."
        )
    kernel = (-wide / epsilon).exp()
    scales = [torch.full((g, n), 1 / n, dtype=torch.float64, device=cost.device) for _ in range(k)]
    for _ in range(iterations):
        off = 0.0
        for axis, rest in enumerate(_contracted(kernel, scales)):  # (g, n)
            off = max(off, float((n * scales[axis] * rest - 1).abs().max()))
            scales[axis] = 1 / (n * rest)
        if off <= tolerance:
            break
    plan = kernel
    for axis, scale in enumerate(scales):
        plan = plan * scale.reshape(g, *[n if a == axis else 1 for a in range(k)])
    return plan.to(cost.dtype)


def _contracted(kernel: Tensor, scales: list[Tensor]) -> Iterator[Tensor]:
    """For each axis in turn: the sum over all others of kernel (g, n, ..., n) times their scales (g, n) -> (g, n).

    Scales that the caller replaces in between count from the next axis on. The sums over later axes are made once for
    all, so a sweep reads the whole kernel twice, not k times.
    """
    g, n = scales[0].shape
    rights = [kernel.reshape(g, -1)]
    for scale in reversed(scales[1:]):
        rights.insert(0, (rights[0].reshape(g, -1, n) @ scale[:, :, None])[..., 0])  # (g, m, n) @ (g, n, 1) -> (g, m)
    for axis, rest in enumerate(rights):
        for scale in scales[:axis]:
            rest = (scale[:, None] @ rest.reshape(g, n, -1))[:, 0]  # (g, 1, n) @ (g, n, m) -> (g, m)
        yield rest


def matching_gap(views: Tensor, epsilon: float, iterations: int = 100) -> Tensor:
    """M3G: what the true matching costs above the best entropic polymatching (Piran et al. 2024, eq. 8), (g,).

    <J, C> + epsilon KL(J || uniform) - min_P (<P, C> + epsilon KL(P || uniform)), J the diagonal over n: >= 0, and near
    0 where each item's views are nearer to each other than to any other item's. views: (g, k, n, d) unit vectors, row i
    of each view of the same item, k >= 2, n >= 2. Its gradient with respect to C is J - P (Fenchel-Young: P is taken as
    a constant), so only the k(k - 1)/2 pairs' marginals of P are needed for it.
    """
    pairs = pairwise_costs(views)  # (g, k, k, n, n)
    g, k, n = pairs.shape[0], pairs.shape[1], pairs.shape[-1]
    with torch.no_grad():
        plan = polymatching(cost_tensor(pairs), epsilon, iterations)
        entropy = torch.special.entr(plan).reshape(g, -1).sum(1)
        offset = epsilon * (entropy - math.log(n))  # epsilon KL(J || uniform) - epsilon KL(P || uniform)
    gap, identity = offset, torch.eye(n, dtype=pairs.dtype, device=pairs.device) / n
    for p in range(k):
        for q in range(p + 1, k):
            others = [1 + axis for axis in range(k) if axis not in (p, q)]
            own = plan.sum(others) if others else plan  # (g, n, n)
            gap = gap + ((identity - own) * pairs[:, p, q]).sum((-2, -1)) * (2 / (k * (k - 1)))
    return gap
