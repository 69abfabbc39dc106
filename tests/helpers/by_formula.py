"""Flash attention over packed sequences, forward and back, by its formulas: on a CPU, in any precision."""

import torch


def parts_by_formula(q_NHE, k_MGE, v_MGE, bounds, *, causal, scale):
    """(probabilities' log, values) of each sequence: scores (H, n, m), keys and values repeated for their heads."""
    for (a, b), (c, d) in zip(*(zip(x[:-1].tolist(), x[1:].tolist(), strict=True) for x in bounds), strict=True):
        repeats = q_NHE.shape[1] // k_MGE.shape[1]
        k, v = (x[c:d].repeat_interleave(repeats, 1) for x in (k_MGE, v_MGE))
        scores = torch.einsum("nhe,mhe->hnm", q_NHE[a:b], k) * scale
        if causal:
            scores = scores.masked_fill(~torch.ones(b - a, d - c, dtype=torch.bool).tril(), -torch.inf)
        yield (a, b), (c, d), scores, k, v


def forward(q, k, v, bounds, longest, *, causal, scale):
    assert [int(x.diff().max()) <= most for x, most in zip(bounds, longest, strict=True)] == [True, True]
    out, total = torch.zeros_like(q), q.new_zeros(q.shape[1], q.shape[0])
    for (a, b), _, scores, _, values in parts_by_formula(q, k, v, bounds, causal=causal, scale=scale):
        total[:, a:b] = scores.logsumexp(-1)
        out[a:b] = torch.einsum("hnm,mhe->nhe", scores.softmax(-1), values)
    return out, total.float()


def backward(grad, q, k, v, out, total, bounds, longest, *, causal, scale):
    """As flash attention goes back: probabilities from the log-sum-exp that it is told, whatever that counts."""
    grads = [torch.zeros_like(x) for x in (q, k, v)]
    shared = (grad * out).sum(-1).T
    for (a, b), (c, d), scores, keys, values in parts_by_formula(q, k, v, bounds, causal=causal, scale=scale):
        p = (scores - total[:, a:b, None]).exp()
        ds = p * (torch.einsum("nhe,mhe->hnm", grad[a:b], values) - shared[:, a:b, None]) * scale
        grads[0][a:b] += torch.einsum("hnm,mhe->nhe", ds, keys)
        for into, part in (
            (grads[1], torch.einsum("hnm,nhe->mhe", ds, q[a:b])),
            (grads[2], torch.einsum("hnm,nhe->mhe", p, grad[a:b])),
        ):
            into[c:d] += part.unflatten(1, (k.shape[1], -1)).sum(2)
    return tuple(grads)
