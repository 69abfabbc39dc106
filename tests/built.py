"""Small translators and source states for them."""

import torch

from raybridge.translators.options import LayerMixModule

B, T, S, D, RMS = 4, 11, 24, 40, 0.37


def build(config, seed: int = 0):
    """The module with its closed-form start, where it has one."""
    torch.manual_seed(seed)
    module = config.build(S, D, target_rms=RMS)
    anchor = getattr(module.core, "anchor", None)
    if anchor is not None:
        anchor.fit(torch.randn(200, anchor.map.in_features), torch.randn(200, D))
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
