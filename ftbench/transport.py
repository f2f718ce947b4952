"""Transport plans between two sets of views, and the similarities they give: pure functions on tensors.

Notation (DESIGN of factorized transport): item i has image views v (M, d) with weights a (M,), item j text views
t (N, d) with weights b (N,); K[m, n] = <v_m, t_n>. Weights sum to 1 over the views that exist and are 0 elsewhere;
views that do not exist must still hold finite numbers (zeros serve). Leading dimensions broadcast.
Must not know encoders, training, data sets or how weights are chosen.
"""

import torch
from torch import Tensor

from ftbench.errors import RunError

# Stands for log 0: finite, so that gradients of masked entries are 0 instead of NaN; exp of it is exactly 0.
_LOG_ZERO = -1e30
_ROUND = 20  # iterations of Sinkhorn between two looks at which pairs have converged


def weighted_mean(views: Tensor, weights: Tensor) -> Tensor:
    """Sum_m w_m v_m: views (..., m, d) float, weights (..., m) -> (..., d), in the views' dtype. Not renormalised."""
    weights = weights.to(views.dtype)
    return (weights.unsqueeze(-2) @ views).squeeze(-2)  # (..., 1, m) @ (..., m, d) -> (..., 1, d) -> (..., d)


def independent_plan(a: Tensor, b: Tensor) -> Tensor:
    """The rank-one plan a b^T, entropic transport for epsilon -> infinity: (..., M), (..., N) -> (..., M, N)."""
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def sinkhorn(
    similarity: Tensor, a: Tensor, b: Tensor, epsilon: float, *, iterations: int = 200, tolerance: float = 1e-6
) -> Tensor:
    """The plan that maximises <plan, similarity> + epsilon H(plan) under marginals a and b.

    Sinkhorn-Knopp in the log domain (Cuturi 2013, Sinkhorn Distances; Peyre and Cuturi 2019, section 4.4).
    similarity: (..., M, N) float, finite. a: (..., M), b: (..., N), >= 0. epsilon: > 0, in units of similarity.
    Stops once no row marginal is off by more than `tolerance`, else after `iterations`; column marginals are exact.
    `marginal_error` tells whether it converged. Where either side has no view at all the plan is 0.
    Returns (..., M, N), differentiable in all three tensors. Raises RunError if epsilon or iterations is not positive.
    """
    if not epsilon > 0 or iterations < 1:
        raise RunError(
            f"sinkhorn: epsilon {epsilon} and iterations {iterations} given, both must be positive. "
            "For the limit epsilon -> 0 use exact_plan, for epsilon -> infinity independent_plan."
        )
    m, n = similarity.shape[-2:]
    lead = torch.broadcast_shapes(similarity.shape[:-2], a.shape[:-1], b.shape[:-1])
    # pairs come last in memory: sums over views are then sums of long rows
    kernel = (similarity / epsilon).expand(*lead, m, n).reshape(-1, m, n).permute(1, 2, 0).contiguous()  # (M, N, p)
    a, b = a.expand(*lead, m).reshape(-1, m).T.contiguous(), b.expand(*lead, n).reshape(-1, n).T.contiguous()
    feasible = (a > 0).any(0) & (b > 0).any(0)  # (p,)
    some_a, some_b = (a > 0) & feasible, (b > 0) & feasible
    log_a = torch.where(some_a, torch.where(some_a, a, 1).log(), _LOG_ZERO)
    log_b = torch.where(some_b, torch.where(some_b, b, 1).log(), _LOG_ZERO)
    log_u, log_v = torch.full_like(log_a, _LOG_ZERO), torch.where(some_b, torch.zeros_like(log_b), _LOG_ZERO)
    left = torch.arange(kernel.shape[-1], device=kernel.device)
    for start in range(0, iterations, _ROUND):
        given = (part[..., left] for part in (kernel, log_a, log_b, log_v))
        u, v, off = _iterate(*given, min(_ROUND, iterations - start), tolerance)
        log_u, log_v = log_u.index_copy(1, left, u), log_v.index_copy(1, left, v)
        left = left[off > tolerance]  # few pairs need many iterations: the others are spared them
        if not len(left):
            break
    plan = (log_u.unsqueeze(1) + kernel + log_v.unsqueeze(0)).exp()
    return plan.permute(2, 0, 1).reshape(*lead, m, n)


def _iterate(
    kernel: Tensor, log_a: Tensor, log_b: Tensor, log_v: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Log scalings u (M, p) and v (N, p) after some iterations from v, and the worst row marginal's error (p,).

    kernel: (M, N, p), log_a: (M, p), log_b: (N, p), _LOG_ZERO where there is no view. Stops where none is off.
    """
    some_a, some_b, a = log_a > _LOG_ZERO, log_b > _LOG_ZERO, log_a.detach().exp()
    log_rows = torch.logsumexp(kernel + log_v, 1)
    for _ in range(iterations):
        # rows, then columns; (M, N, p) -> (M, p) and (N, p)
        log_u = torch.where(some_a, log_a - log_rows, _LOG_ZERO)
        log_v = torch.where(some_b, log_b - torch.logsumexp(kernel + log_u.unsqueeze(1), 0), _LOG_ZERO)
        log_rows = torch.logsumexp(kernel + log_v, 1)
        off = ((torch.where(some_a, log_u + log_rows, _LOG_ZERO).detach().exp() - a).abs() * some_a).amax(0)
        if off.max() <= tolerance:
            break
    return log_u, log_v, off


def exact_plan(similarity: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The plan that maximises <plan, similarity> under marginals a and b: linear programming through POT's `ot.emd`.

    A reference for tests and small studies: one solve per pair on the CPU, in float64, without gradient.
    similarity: (..., M, N); a: (..., M); b: (..., N), leading dimensions as similarity's or broadcast to them.
    Returns (..., M, N) in similarity's dtype and device; 0 where either side has no view at all.
    Raises RunError if POT is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise RunError(
            "exact_plan needs POT (Python Optimal Transport), which is not installed. "
            "Type: pip install POT (or pip install 'ftbench[dev]')."
        ) from error
    lead, (m, n) = similarity.shape[:-2], similarity.shape[-2:]
    cost = -similarity.detach().cpu().double().reshape(-1, m, n).numpy()
    rows = a.detach().cpu().double().expand(*lead, m).reshape(-1, m).numpy()
    columns = b.detach().cpu().double().expand(*lead, n).reshape(-1, n).numpy()
    plans = torch.zeros(len(cost), m, n, dtype=torch.float64)
    for i, (c, p, q) in enumerate(zip(cost, rows, columns, strict=True)):
        if p.sum() > 0 and q.sum() > 0:
            # the same mass on both sides to the last bit, or the solver calls the problem infeasible
            plans[i] = torch.from_numpy(ot.emd(p / p.sum(), q / q.sum(), c))
    return plans.reshape(similarity.shape).to(similarity)


def marginal_error(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The largest amount by which a row or column sum of plan (..., M, N) misses a (..., M) or b (..., N): (...)."""
    rows = (plan.sum(-1) - a).abs().amax(-1)
    columns = (plan.sum(-2) - b).abs().amax(-1)
    return torch.maximum(rows, columns)


def transport_similarity(plan: Tensor, similarity: Tensor) -> Tensor:
    """<plan, K> = sum_mn plan[m, n] K[m, n]: two (..., M, N) -> (...)."""
    return (plan * similarity).sum((-2, -1))


def entropic_value(plan: Tensor, similarity: Tensor, a: Tensor, b: Tensor, epsilon: float) -> Tensor:
    """<plan, K> - epsilon KL(plan || a b^T): (..., M, N), (..., M, N), (..., M), (..., N) -> (...).

    Its maximum over plans with marginals a and b is at `sinkhorn`'s plan: on them KL(plan || a b^T) is H(a) + H(b) -
    H(plan). Unlike with H alone, item pairs of more views score no higher for that. The plan is taken as a constant:
    by the envelope theorem (Danskin; Peyre and Cuturi 2019, section 9.1.3) the maximum's gradient with respect to K is
    the plan. epsilon 0, or infinity with the independent plan: <plan, K>.
    """
    plan = plan.detach()
    value = transport_similarity(plan, similarity)
    if not 0 < epsilon < torch.inf:
        return value
    ratio = torch.where(plan > 0, plan / independent_plan(a, b).clamp(min=1e-30), 1)
    return value - epsilon * (plan * ratio.log()).sum((-2, -1))


def smooth_max(similarity: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """epsilon log sum_v w_v exp(s_v / epsilon) over views: (..., v), (..., v) -> (...).

    A maximum for epsilon -> 0, the weighted mean for epsilon -> infinity where weights sum to 1: the value of entropic
    transport from one probe to views that a KL alone holds to their weights. epsilon: > 0. 0 where no view has weight.
    """
    some = weights > 0
    log_w = torch.where(some, torch.where(some, weights, 1).log(), _LOG_ZERO)
    value = epsilon * torch.logsumexp(similarity / epsilon + log_w, -1)
    return torch.where(some.any(-1), value, 0)


def late_interaction(similarity: Tensor, a: Tensor, b: Tensor, epsilon: float) -> Tensor:
    """Set-to-set similarity by smooth maxima, averaged both ways: (..., M, N), (..., M), (..., N) -> (...).

    Half sum_m a_m smooth_max_n(K[m, n]) and half sum_n b_n smooth_max_m(K[m, n]): the sum of maxima of Khattab and
    Zaharia 2020 (ColBERT, eq. 3) over views in the place of tokens, weighted, smoothed and made symmetric.
    """
    rows = (a * smooth_max(similarity, b.unsqueeze(-2), epsilon)).sum(-1)
    columns = (b * smooth_max(similarity.mT, a.unsqueeze(-2), epsilon)).sum(-1)
    return (rows + columns) / 2


def factorized_similarity(v: Tensor, a: Tensor, t: Tensor, b: Tensor) -> Tensor:
    """<sum_m a_m v_m, sum_n b_n t_n> = <a b^T, K>: the independent plan's similarity without forming K.

    v: (..., M, d), a: (..., M), t: (..., N, d), b: (..., N) -> (...). For all pairs of two batches give
    v[:, None] and t[None, :], or multiply two weighted means.
    """
    return (weighted_mean(v, a) * weighted_mean(t, b)).sum(-1)


def sample_view(weights: Tensor, generator: torch.Generator) -> Tensor:
    """One auxiliary view per item, drawn with probability proportional to its weight.

    weights: (n, m) float, >= 0, the primary view in column 0 (never drawn). generator: on the weights' device.
    Returns (n,) int64 columns in 1..m-1, or -1 where no auxiliary has weight. Takes one uniform per item from the
    generator whatever m, so that padding columns change no draw. Raises RunError on negative or non-finite weights.
    """
    auxiliary = weights[:, 1:].double()
    if not bool((torch.isfinite(auxiliary) & (auxiliary >= 0)).all()):
        raise RunError("sample_view: weights must be finite and >= 0; a negative, infinite or NaN weight was given.")
    u = torch.rand(len(weights), 1, generator=generator, device=weights.device, dtype=torch.float64)
    if auxiliary.shape[1] == 0:
        return torch.full((len(weights),), -1, dtype=torch.int64, device=weights.device)
    reach = auxiliary.cumsum(1)  # (n, m - 1)
    # first column whose cumulated weight exceeds u * total; rounding may push u * total onto the total itself
    drawn = (reach <= u * reach[:, -1:]).sum(1)
    last = (reach < reach[:, -1:]).sum(1)
    return torch.where(reach[:, -1] > 0, 1 + torch.minimum(drawn, last), -1)


def sampled_mean(primary: Tensor, auxiliary: Tensor, a0: Tensor) -> Tensor:
    """a_0 v_0 + (1 - a_0) v_m: primary (n, d), the sampled auxiliary (n, d), primary share a0 (n,) -> (n, d).

    Unbiased for the weighted mean when m comes from `sample_view` with the same weights. An item without auxiliaries
    has a0 = 1; its row of `auxiliary` may be anything finite. Not renormalised: the claim holds for inner products.
    """
    share = a0.to(primary.dtype).unsqueeze(-1)
    return share * primary + (1 - share) * auxiliary
