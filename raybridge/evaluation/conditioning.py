"""What soft tokens look like from inside: where their queries look, how many directions they use, which tokens they resemble.

`conditioning_of` gives the rows of conditioning.parquet, whose columns and kinds are named in results.schema.

Shapes: B questions, K soft tokens, D target width, V vocabulary, T source positions, W inner width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Setting
from raybridge.results.schema import ATTENTION_BINS
from raybridge.translators import TranslatorModule
from raybridge.translators.parts import Attention

COMPONENTS = 64  # singular values kept
LOOKED_AT = 64  # dev problems whose soft tokens are looked at
AT_ONCE = 1024  # vectors in memory while they are compared or decomposed


@torch.no_grad()
def look_inside(setting: Setting, models: Models, weights: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Where the translator of these weights looks and what its soft tokens resemble, on the problems of a setting."""
    assert setting.translator is not None, "a setting without a translator has nothing to look into"
    module = models.module(setting, weights)
    states, mask = models.states(setting, setting.translator.layers)
    embeddings = models.load(setting.target).model.get_input_embeddings().weight
    return conditioning_of(module(states, mask), embeddings, attention_of(module, states, mask), mask)


def conditioning_of(
    soft_BKD: Tensor,
    embedding_VD: Tensor,
    attention_BKT: Tensor | None = None,
    mask_BT: Tensor | None = None,
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of conditioning.parquet for the soft tokens of B questions; the mask: which source positions are the question."""
    n = len(soft_BKD)
    if n < 2:
        raise ValueError(f"soft tokens of {n} questions have no spread; diagnostics need at least 2")
    noise = torch.randn(soft_BKD.shape, generator=torch.Generator().manual_seed(seed)).to(soft_BKD)
    nearest_BK = nearest(soft_BKD, embedding_VD)
    low_K, high_K = nearest_BK.quantile(torch.tensor([0.1, 0.9]), dim=0)
    values: dict[str, list[float]] = {
        "singular_value": singular_values(soft_BKD.flatten(0, 1)),
        "nearest": nearest_BK.mean(0).tolist(),
        "nearest_p10": low_K.tolist(),
        "nearest_p90": high_K.tolist(),
        "nearest_random": nearest(noise, embedding_VD).mean(0).tolist(),
    }
    if attention_BKT is not None:
        assert mask_BT is not None, "attention without the mask of its positions"
        values["attention"] = binned(attention_BKT, mask_BT).flatten().tolist()
    return [
        {"kind": kind, "index": index, "value": value, "n": n}
        for kind, found in values.items()
        for index, value in enumerate(found)
    ]


def singular_values(rows_ND: Tensor) -> list[float]:
    """The largest singular values of vectors about their mean, in bounded memory (Ross et al. 2008, incremental PCA)."""
    from sklearn.decomposition import IncrementalPCA

    n, width = rows_ND.shape
    pca = IncrementalPCA(n_components=min(COMPONENTS, n, width))
    for part in rows_ND.tensor_split(max(1, n // AT_ONCE)):  # no part is smaller than the number of components
        pca.partial_fit(part.float().cpu().numpy().astype(np.float64))
    return [float(value) for value in pca.singular_values_]


def nearest(soft_BKD: Tensor, embedding_VD: Tensor) -> Tensor:
    """Cosine (B, K) of each soft token to the nearest embedding."""
    embedding_VD = F.normalize(embedding_VD.float(), dim=-1)
    rows_ND = F.normalize(soft_BKD.float().flatten(0, 1), dim=-1)
    best_N = torch.cat([(part @ embedding_VD.T).amax(1) for part in rows_ND.split(AT_ONCE)])
    return best_N.unflatten(0, soft_BKD.shape[:2]).cpu()


def binned(attention_BKT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean share (K, ATTENTION_BINS) of each query's attention on equal parts of the question, whatever its length.

    A position that lies in two parts counts in both by its share, so even attention is even in the bins.
    """
    total = torch.zeros(attention_BKT.shape[1], ATTENTION_BINS, dtype=torch.float64)
    for attention_KT, mask_T in zip(attention_BKT.double().cpu(), mask_BT.bool().cpu(), strict=True):
        inside_KT = attention_KT[:, mask_T]
        share_KT = inside_KT / inside_KT.sum(1, keepdim=True)
        upto_KT = F.pad(share_KT.cumsum(1), (1, 0))
        edges = torch.linspace(0, inside_KT.shape[1], ATTENTION_BINS + 1, dtype=torch.float64)
        whole = edges.long().clamp(max=inside_KT.shape[1] - 1)
        at_edges = upto_KT[:, whole] + (edges - whole) * (upto_KT[:, whole + 1] - upto_KT[:, whole])
        total += at_edges.diff(dim=1)
    return total / len(attention_BKT)


@torch.no_grad()
def attention_of(module: TranslatorModule, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor | None:
    """Where the queries look (B, K, T), mean over heads, layers and steps; None for a translator without cross-attention.

    A translator that pools the question before its soft tokens see it has one query (B, 1, T).
    """
    seen: list[Tensor] = []

    def watch(attention: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(attention, Attention)
        x_BKW, memory_BTW, mask = inputs
        if mask is mask_BT:  # neither queries among themselves nor a guided flow without its question
            seen.append(_weights(attention, x_BKW, memory_BTW, mask))

    handles = [part.register_forward_pre_hook(watch) for part in module.core.attentions]
    try:
        module(states_BTLS, mask_BT)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(seen).mean(0) if seen else None


def _weights(attention: Attention, x_BKW: Tensor, memory_BTW: Tensor, mask_BT: Tensor) -> Tensor:
    """Attention weights (B, K, T), mean over the heads: what scaled_dot_product_attention does not return."""
    q_BHKE = attention.query(x_BKW).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    k_BTW, _ = attention.key_value(memory_BTW).chunk(2, dim=-1)
    k_BHTE = k_BTW.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    scores_BHKT = (q_BHKE @ k_BHTE.transpose(2, 3)).float() / q_BHKE.shape[-1] ** 0.5
    return scores_BHKT.masked_fill(~mask_BT[:, None, None, :], -torch.inf).softmax(-1).mean(1)
