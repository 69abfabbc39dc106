"""Models in GGUF files: how transformers is asked for one, and whether it reads the tokenizer that the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

MAGIC = b"GGUF"  # the first bytes of such a file


def is_named(where: str) -> bool:
    """Whether a place is the name of a GGUF file."""
    return Path(where).suffix.lower() == ".gguf"


def place_and_options(where: str) -> tuple[str, dict[str, str]]:
    """What `from_pretrained` is given for a place: of a GGUF file its folder, and its name as an option."""
    path = Path(where)
    return (str(path.parent), {"gguf_file": path.name}) if is_named(where) else (where, {})


def unpacked(options: dict[str, str]) -> dict[str, Any]:
    """The option that makes plain weights of a GGUF file's quantised ones."""
    return {"quantization_config": transformers.GgufConfig(dequantize=True)} if options else {}


def check_is_one(name: str, where: str) -> None:
    """Refuse a file that is called .gguf and is none."""
    path = Path(where)
    if not path.is_file():
        raise ValueError(f"model {name!r}: {where} is not a file")
    with path.open("rb") as file:
        begin = file.read(len(MAGIC))
    if begin != MAGIC:
        raise ValueError(f"model {name!r}: {where} is {'empty' if not begin else 'no GGUF file: it does not begin with GGUF'}")


def begins_with_bos(tokenizer: Any) -> bool:
    """Whether a tokenizer puts a BOS in front of text by itself."""
    ids = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def check_asks_for_no_bos(name: str, tokenizer: Any, where: str) -> None:
    """Refuse a tokenizer that puts no BOS in front of text where its GGUF file asks for one.

    transformers 5.17 reads Gemma's so, and with other merges; text that is split otherwise than a model was trained on costs
    it a nat a token, and every figure would be of another model.
    """
    from gguf import GGUFReader  # every command imports this file, and few meet a GGUF file

    asks = GGUFReader(where).fields.get("tokenizer.ggml.add_bos_token")
    if asks is not None and asks.contents():
        raise ValueError(
            f"model {name!r}: its GGUF file says that text begins with {tokenizer.bos_token!r}, and transformers "
            f"{transformers.__version__} reads its tokenizer without it; install transformers 5.23 or later, or give a "
            "directory with the model's own tokenizer.json"
        )
