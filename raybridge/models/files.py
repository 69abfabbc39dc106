"""The tokenizer and the weights of a model as its files hold them: read whole, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import CHAT_TEMPLATE_DIR
from transformers.utils import logging as transformers_logging

from raybridge.errors import reason_of
from raybridge.models import gguf
from raybridge.models.bits import WHOLE, loading
from raybridge.models.reading import read_of

FILES = {
    "tokenizer": ("tokenizer.json", "tokenizer.model", "vocab.*", "spiece.model", "tokenizer_config.json"),
    "weight file": ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json"),
}

_ahead: dict[tuple[str, tuple[str, ...]], Any] = {}  # tokenizers that nobody has asked for yet, by where and `stamps`


def read(
    name: str, where: str, *, dtype: torch.dtype, bits: int = WHOLE, parts: Mapping[str, torch.device] | None = None
) -> tuple[Any, Any]:
    """Tokenizer and model from a directory, a GGUF file or the hub. ValueError says what cannot be read, or is missing.

    bits: that a weight is packed into on the way. parts: the device that each part is read to; None for the CPU.
    """
    place, options = gguf.place_and_options(where)
    if options:
        gguf.check_is_one(name, where)
    tokenizer = _ahead.pop((where, stamps(Path(where))), None) or tokenizer_of(name, where)
    if not len(tokenizer):
        raise ValueError(f"model {name!r}: there is no tokenizer in {where}")
    if options and not gguf.begins_with_bos(tokenizer):
        gguf.check_asks_for_no_bos(name, tokenizer, where)
    with _quiet(), read_of(name):
        model, seen = _read(
            name,
            "weights",
            where,
            lambda: AutoModelForCausalLM.from_pretrained(
                place,
                dtype=dtype,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below
                **options,
                **gguf.unpacked(options),
                **loading(bits, dtype),
                **({"device_map": dict(parts)} if parts else {}),
            ),
        )
    missing = sorted([*seen["missing_keys"], *(key for key, *_ in seen["mismatched_keys"])])
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"model {name!r}: {missing[0]}{others} is not in the weights of {where} in its shape, and would be random"
        )
    return tokenizer, model


def read_ahead(name: str, where: str) -> None:
    """Read a tokenizer for whoever asks next for the model, if its files are still the same."""
    _ahead[where, stamps(Path(where))] = tokenizer_of(name, where)


def tokenizer_of(name: str, where: str, *, revision: str | None = None) -> Any:
    """The tokenizer alone. revision: of the hub; None for what is there."""
    place, options = gguf.place_and_options(where)
    if revision:
        options = {**options, "revision": revision}
    return uncleaned(
        _read(name, "tokenizer", where, lambda: AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options))
    )


def stamps(place: Path) -> tuple[str, ...]:
    """What the file system says of the file at a place, or of each in a model's folder, its named chat templates among them."""
    there = [*place.iterdir(), *place.glob(f"{CHAT_TEMPLATE_DIR}/*.jinja")] if place.is_dir() else [place]
    return tuple(f"{path.relative_to(place.parent)} {stamp(path)}" for path in sorted(there) if path.is_file())


def stamp(path: Path) -> str:
    """What the file system says of a file: it is another where its content is."""
    told = path.stat()
    return f"{told.st_dev} {told.st_ino} {told.st_size} {told.st_mtime_ns} {told.st_ctime_ns}"


def uncleaned(tokenizer: Any) -> Any:
    """The tokenizer, told not to clean spaces up behind decoding: of a BPE's, transformers does not, and warns of each one."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    asked = getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    if type(model).__name__ == "BPE" and not asked:
        tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def check_complete(name: str, where: str) -> None:
    """Refuse a directory without weights or without a tokenizer, before anything of it is loaded."""
    folder = Path(where)
    if not folder.is_dir():
        return
    for what, patterns in FILES.items():
        if not any(path for pattern in patterns for path in folder.glob(pattern)):
            raise ValueError(f"model {name!r}: there is no {what} in {where} (valid: {', '.join(patterns)})")


def _read(name: str, what: str, where: str, read: Callable[[], Any]) -> Any:
    """What `read` returns. Each reader of files has errors of its own; all become one sentence."""
    try:
        return read()
    except ImportError:
        raise
    except Exception as error:
        reason = reason_of(error)
        raise ValueError(f"model {name!r}: its {what} cannot be read from {where}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' report of missing weights is an error here, raised by `read`."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
