"""Small translators and source states for them."""

import pytest
import torch

from raybridge.translators.attention_pooling import AttentionPooling
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.translators.dit import DiT
from raybridge.translators.format_only import FormatOnly
from raybridge.translators.hybrid_dit import HybridDiT
from raybridge.translators.injection import Injection
from raybridge.translators.interlingua import Interlingua
from raybridge.translators.linear import Linear
from raybridge.translators.options import BesideText, LayerMix, LayerMixModule, Projected
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.residual import Residual
from raybridge.translators.ridge import Moments

B, T, S, D, RMS = 4, 11, 24, 40, 0.37

BOTTLENECKED = [
    Bottlenecked(soft_tokens=6, layers=(0, 2), width=32, depth=2, heads=4),
    Bottlenecked(soft_tokens=1, layers=(1,), width=32, depth=1, heads=4, anchored=False),
    Bottlenecked(soft_tokens=17, layers=(0, 1, 3), width=32, depth=1, heads=2),
    Bottlenecked(soft_tokens=6, layers=(0, 2), width=32, depth=2, heads=4, picking="salient", free_share=0.4),
    Bottlenecked(soft_tokens=4, layers=(0, 2), width=32, depth=1, heads=4, picking="mean"),
]

CONFIGS = [
    *BOTTLENECKED,
    PromptTuning(soft_tokens=5),
    FormatOnly(soft_tokens=3),
    Linear(soft_tokens=4, layers=(0, 1)),
    Linear(soft_tokens=4, layers=(2,), pooling="mean"),
    Linear(soft_tokens=13, layers=(0,)),
    DiT(soft_tokens=6, layers=(0, 2), width=32, depth=2, heads=4, pooling="mean", train_steps=1, eval_steps=3),
    DiT(soft_tokens=3, layers=(1,), width=32, depth=1, heads=2, guidance=2.0),
    HybridDiT(soft_tokens=5, layers=(0, 2), width=32, depth=2, heads=4),
    HybridDiT(soft_tokens=1, layers=(1,), width=32, depth=1, heads=2, guidance=2.0),
    LayerMix(translator=Linear(soft_tokens=4, layers=(1,)), layers=(0, 1, 3)),
    Projected(translator=HybridDiT(soft_tokens=3, layers=(0, 2), width=32, depth=1, heads=2)),
    Projected(translator=LayerMix(translator=BOTTLENECKED[0], layers=(2, 1, 0))),
    Interlingua(soft_tokens=6, layers=(0, 2), latent_width=24, width=32, depth=2, heads=2, also=("pocket:source",)),
    Residual(translator=Linear(soft_tokens=4, layers=(0, 1), pooling="mean")),
    Injection(translator=Linear(soft_tokens=4, layers=(0, 1), pooling="mean"), target_layers=(2, 0), rank=3),
    BesideText(translator=Linear(soft_tokens=3, layers=(0,))),
    AttentionPooling(soft_tokens=6, layers=(0, 2), width=32, heads=4),
]

all_translators = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{type(config).__name__}{config.soft_tokens}")


def build(config, seed: int = 0):
    """The module with its closed-form start, where it has one."""
    torch.manual_seed(seed)
    module = config.build(S, D, target_rms=RMS)
    with torch.no_grad():
        states_NS = module.core_states(torch.randn(20, 10, len(config.layers), S)).flatten(0, 1).flatten(1)
    module.fit(Moments.of(states_NS, embeddings=torch.randn(200, D), nll=torch.randn(200, 1)))
    return module


def states(config, seed: int = 1):
    torch.manual_seed(seed)
    lengths = torch.tensor([11, 3, 7, 1])
    return torch.randn(B, T, len(config.layers), S), torch.arange(T) < lengths[:, None]


def awake(module, seed: int = 2):
    """Whatever starts at zero, so that a part starts closed, is opened."""
    torch.manual_seed(seed)
    for p in module.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.5)
    for part in module.modules():
        if isinstance(part, LayerMixModule):
            part.weights.data += 0.2
    return module
