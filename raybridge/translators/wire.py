"""What soft tokens weigh on a wire.

`pack` writes real bytes, so that a ratio counts scales and header, and `unpack` gives what the target would read, so that
accuracy can be measured through the same bytes. Integers are symmetric with one fp16 scale for each group of neighbouring
values of a soft token; the scale is rounded up, so that no value is clipped and none moves by more than half a scale.

A message: bits (1 byte), number of dimensions (1), group (2), each dimension (4), scales (2 each), codes (bit-packed).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge.config import typed
from raybridge.errors import unknown

HEADER = struct.Struct("<BBH")
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class WireFormat:
    """How one value travels: 16 bits as fp16, else an integer of `bits` under a scale for each `group` values."""

    bits: int
    group: int = 32

    def __post_init__(self) -> None:
        typed(self)
        if self.bits not in (4, 6, 8, 16):
            raise unknown("number of bits", self.bits, (4, 6, 8, 16), "wire format")
        if not 1 <= self.group < 2**16:
            raise ValueError(f"wire format: group must lie in 1..65535, not {self.group}")

    @property
    def levels(self) -> int:
        """The largest integer of either sign."""
        return 2 ** (self.bits - 1) - 1


FORMATS = {"fp16": WireFormat(bits=16), "int8": WireFormat(bits=8), "int6": WireFormat(bits=6), "int4": WireFormat(bits=4)}


def wire_bytes(shape: Sequence[int], form: WireFormat) -> int:
    """Bytes of the message that `pack` writes for soft tokens of this shape (..., K, D)."""
    return _header_bytes(len(shape)) + 2 * math.prod(_scales_shape(shape, form)) + math.ceil(math.prod(shape) * form.bits / 8)


def pack(soft_KD: Tensor, form: WireFormat) -> bytes:
    """Soft tokens (..., K, D) as one message."""
    values = soft_KD.detach().float().cpu().numpy()
    _check_there(values.size, values.shape)
    _check_size(float(np.abs(values).max()))
    header = HEADER.pack(form.bits, values.ndim, form.group) + struct.pack(f"<{values.ndim}I", *values.shape)
    if form.bits == 16:
        return header + values.astype("<f2").tobytes()
    groups = _grouped(values, form)
    scales = _rounded_up(np.abs(groups).max(axis=-1) / form.levels)
    steps = np.where(scales == 0, np.float32(1), scales.astype(np.float32))
    codes = np.rint(groups / steps[..., None]).astype(np.int16) + form.levels
    codes = codes.reshape(*groups.shape[:-2], -1)[..., : values.shape[-1]]
    return header + scales.tobytes() + _pack_bits(codes.astype(np.uint8).ravel(), form.bits)


def unpack(message: bytes) -> Tensor:
    """The soft tokens that a message carries, in fp32."""
    if len(message) < HEADER.size:
        raise ValueError(f"a message of {len(message)} bytes has no header")
    bits, dimensions, group = HEADER.unpack_from(message)
    form, start = WireFormat(bits=bits, group=group), _header_bytes(dimensions)
    if len(message) < start:
        raise ValueError(f"a message of {len(message)} bytes ends in its header")
    shape = struct.unpack_from(f"<{dimensions}I", message, HEADER.size)
    if len(message) != wire_bytes(shape, form):
        raise ValueError(f"a message of shape {shape} at {bits} bits has {wire_bytes(shape, form)} bytes, not {len(message)}")
    if bits == 16:
        return torch.from_numpy(np.frombuffer(message, "<f2", offset=start).astype(np.float32).reshape(shape))
    scales_shape = _scales_shape(shape, form)
    scales = np.frombuffer(message, "<f2", count=math.prod(scales_shape), offset=start).astype(np.float32)
    codes = _unpack_bits(message[start + 2 * scales.size :], bits, math.prod(shape)).astype(np.float32) - form.levels
    groups = _grouped(codes.reshape(shape), form) * scales.reshape(scales_shape)[..., None]
    return torch.from_numpy(groups.reshape(*groups.shape[:-2], -1)[..., : shape[-1]].copy())


def through_wire(soft_KD: Tensor, form: WireFormat) -> Tensor:
    """What `unpack` makes of `pack`'s message, to the last bit, on the device and in the type that the soft tokens have.

    No message is made: to write the bits of a batch takes a host longer than a card takes to answer it.
    """
    values_KD = soft_KD.detach().float()
    _check_there(values_KD.numel(), values_KD.shape)
    _check_size(values_KD.abs().max().item())
    if form.bits == 16:
        return values_KD.half().to(soft_KD.dtype)
    groups = F.pad(values_KD, (0, -values_KD.shape[-1] % form.group)).unflatten(-1, (-1, form.group))
    exact = groups.abs().amax(-1, keepdim=True) / form.levels
    near = exact.half()
    scales = torch.where(near.float() < exact, (near.view(torch.int16) + 1).view(torch.half), near).float()  # the next above
    codes = (groups / torch.where(scales == 0, 1, scales)).round()
    arrived = codes * scales + 0.0  # integers have one zero
    return arrived.flatten(-2)[..., : values_KD.shape[-1]].to(soft_KD.dtype)


def _check_there(count: int, shape: Sequence[int]) -> None:
    if not (count and len(shape)):
        raise ValueError(f"nothing to send: soft tokens of shape {tuple(shape)}")


def _check_size(largest: float) -> None:
    if not largest <= LARGEST:  # NaN as well
        raise ValueError(f"soft tokens must be finite and at most {LARGEST:g} in size to be sent, not {largest:g}")


def _header_bytes(dimensions: int) -> int:
    return HEADER.size + 4 * dimensions


def _scales_shape(shape: Sequence[int], form: WireFormat) -> tuple[int, ...]:
    return (0,) if form.bits == 16 else (*shape[:-1], math.ceil(shape[-1] / form.group))


def _grouped(values: np.ndarray, form: WireFormat) -> np.ndarray:
    """(..., D) as (..., groups, group), the last group filled up with zeros."""
    missing = -values.shape[-1] % form.group
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return padded.reshape(*values.shape[:-1], -1, form.group)


def _rounded_up(scales: np.ndarray) -> np.ndarray:
    """The smallest fp16 numbers that are not below `scales`."""
    near = scales.astype("<f2")
    return np.where(near.astype(scales.dtype) < scales, np.nextafter(near, np.float16(np.inf)), near).astype("<f2")


def _pack_bits(codes: np.ndarray, bits: int) -> bytes:
    """The low `bits` of each code, one after the other."""
    return np.packbits(np.unpackbits(codes[:, None], axis=1)[:, 8 - bits :]).tobytes()


def _unpack_bits(packed: bytes, bits: int, count: int) -> np.ndarray:
    """Inverse of `_pack_bits`."""
    low = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * bits).reshape(count, bits)
    return np.packbits(np.pad(low, ((0, 0), (8 - bits, 0))), axis=1)[:, 0]
