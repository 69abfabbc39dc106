"""Models whose weights are held in 8 or 4 bits: `name:8bit` and `name:4bit`, wherever a model is named.

bitsandbytes packs the weights of linear maps as they are loaded (Dettmers et al. 2022, arXiv:2208.07339; 2023,
arXiv:2305.14314); embeddings, head and norms stay as they are. A model in fewer bits is another model: it has another identity.

Shapes: D in, E out.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedConfig

from raybridge.errors import unknown

WHOLE = 16  # bits of a weight that is not packed, on a GPU
NAMED = re.compile(r"(?P<model>.+):(?P<bits>\d+)-?bits?", re.DOTALL)
RECIPES = {8: "int8 by rows, products in the precision of the pass", 4: "nf4 by 64, its scales in 8 bits by 256"}
SIZES = {8: 8.0, 4: 4 + 8 / 64 + 32 / (64 * 256)}  # bits of a packed weight with its share of the scales
LEVELS = 127  # of an 8-bit weight, on each side of zero


def parted(name: str) -> tuple[str, int]:
    """A model's name without what it says of bits, and the bits of its weights."""
    told = NAMED.fullmatch(name)
    if told is None:
        return name, WHOLE
    valid = [f"{told['model']}:{bits}bit" for bits in RECIPES]
    if name not in valid:
        raise unknown("number of bits", name, valid)
    return told["model"], int(told["bits"])


def check(name: str, config: PreTrainedConfig) -> None:
    """Refuse to pack the weights of a model that are packed already, or where nobody can."""
    if getattr(config, "quantization_config", None):
        raise ValueError(f"model {name!r}: its weights are packed as they lie in its files; name it without its bits")
    if find_spec("bitsandbytes") is None:
        raise ValueError(f"model {name!r}: bitsandbytes is not installed, which packs weights: pip install 'raybridge[bits]'")


def loading(bits: int, dtype: torch.dtype) -> dict[str, Any]:
    """The option by which `from_pretrained` packs weights on the way in. dtype: of what is computed from them."""
    if bits == WHOLE:
        return {}
    if bits == 8:
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    four = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": four}


def by_weight_alone(model: nn.Module) -> None:
    """Have maps in 8 bits multiply by their weights as they are unpacked.

    bitsandbytes' own product rounds what comes in as well, but for the columns in which any row of a pass has an outlier: an
    answer would depend on what stands beside it.
    """
    from bitsandbytes.nn import Linear8bitLt

    for name, one in list(model.named_modules()):
        if isinstance(one, Linear8bitLt):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, EightBits(one.weight.data, one.weight.SCB, one.bias))


class EightBits(nn.Module):
    """A linear map whose weight (E, D) is held as whole numbers up to LEVELS and the largest size of each row (E)."""

    def __init__(self, levels_ED: Tensor, largest_E: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = levels_ED.shape
        self.weight = nn.Parameter(levels_ED.as_subclass(Tensor), requires_grad=False)
        self.largest = nn.Parameter(largest_E.float(), requires_grad=False)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., E)."""
        made: Tensor = _Product.apply(x, self.weight, self.largest)
        return made if self.bias is None else made + self.bias


class _Product(torch.autograd.Function):
    """x times a weight in 8 bits, which is unpacked for the product and again for the gradient: kept, it would be whole."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels_ED: Tensor, largest_E: Tensor) -> Tensor:
        ctx.save_for_backward(levels_ED, largest_E)
        return F.linear(x, unpacked(levels_ED, largest_E, x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        levels_ED, largest_E = ctx.saved_tensors
        return gradient @ unpacked(levels_ED, largest_E, gradient.dtype), None, None


def unpacked(levels_ED: Tensor, largest_E: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight (E, D)."""
    return levels_ED.to(dtype).mul_((largest_E / LEVELS).unsqueeze(1))  # multiplied in fp32, and rounded once
