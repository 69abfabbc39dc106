"""What a model is, by content: the digests of its weights and of its tokenizer, and its chat template, wherever its files lie.

A large file is read once: its digest is kept in the user's cache beside what the file system says of the file. Of a model on
the hub that is not here yet the hub tells the digests of its weights, and nothing is downloaded but what a tokenizer is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from transformers.utils import cached_file

from raybridge.data import UnreachableError
from raybridge.errors import reason_of
from raybridge.models import bits, byte_lm, names
from raybridge.models.files import stamp, stamps, tokenizer_of

DIGEST = re.compile(r"[0-9a-f]{64}")
LARGE = 2**24  # bytes, from which on a digest is kept
PATIENCE = 5.0  # seconds that the hub is waited for
SETTINGS = ("config.json", "generation_config.json")
WEIGHTS = (("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json"))
VOCABULARIES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "tekken.json")


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelIdentity:
    """A model without its weights. revision: the hub's commit; None where it is not of the hub.

    It reads and writes text as `FrozenLM` does, so that a prompt can be made for it.
    """

    name: str
    weights: str
    vocabulary: str
    tokenizer: Any
    revision: str | None = None

    @property
    def template(self) -> str:
        """Digest of its chat template; empty for none."""
        template = getattr(self.tokenizer, "chat_template", None)
        return digest(template) if template else ""

    def text(self, ids: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def tokenize(self, text: str) -> list[int]:
        """Token ids of text, no special tokens added."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


@dataclass(frozen=True, eq=False)
class Files:
    """The files of a model. folder: where they lie, as far as they are here. told: digests that the hub tells of others."""

    folder: Path | None
    repository: str = ""
    revision: str | None = None
    told: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """What there is."""
        here = {path.name for path in self.folder.iterdir() if path.is_file()} if self.folder else set()
        return here | set(self.told)

    def place(self, name: str) -> Path:
        """A file, fetched if it is not here."""
        if self.folder and (self.folder / name).exists():
            return self.folder / name
        try:
            return Path(str(cached_file(self.repository, name, revision=self.revision)))
        except OSError as error:
            raise ValueError(f"model {self.repository}: its {name} is not here and cannot be fetched") from error

    def digest(self, name: str) -> str:
        """Of a file's content."""
        return self.told.get(name) or file_digest(self.place(name))


def revision_of(name: str) -> str | None:
    """The hub's commit of a model; None of one that is not from the hub."""
    local = name == byte_lm.NAME or Path(names.place(name)).exists()
    return None if local else _hub_files(name, names.place(name)).revision


def model_identity(name: str) -> ModelIdentity:
    """What the model of that name is now; refuses what is not there. In fewer bits it has other weights."""
    bare, packed = bits.parted(name)
    if packed != bits.WHOLE:
        whole = model_identity(bare)
        return replace(whole, name=name, weights=digest([whole.weights, bits.RECIPES[packed]]))
    if name == byte_lm.NAME:
        code = file_digest(Path(byte_lm.__file__))
        return ModelIdentity(name=name, weights=code, vocabulary=code, tokenizer=byte_lm.tokenizer())
    place = Path(names.place(name))
    if place.exists():
        names.check(name)
        return _here(name, place, stamps(place))
    return _of(name, _hub_files(name, str(place)))


@lru_cache(maxsize=32)
def _here(name: str, place: Path, stamps: tuple[str, ...]) -> ModelIdentity:
    """A model on disk. stamps: what the file system says of its files: others under the same name are looked at anew."""
    if place.is_dir():
        return _of(name, Files(place))
    whole = file_digest(place)
    return ModelIdentity(name=name, weights=whole, vocabulary=whole, tokenizer=tokenizer_of(name, str(place)))


def _hub_files(name: str, repository: str) -> Files:
    """The files of a model of the hub."""
    found = _of_hub(repository)
    if isinstance(found, str):
        raise UnreachableError(
            f"model {name!r} cannot be read from {repository}: {found} (valid: a hub id that is reachable or cached, a "
            "directory, a .gguf file, pocket:source, pocket:target; RAYBRIDGE_MODELS=id=directory maps a hub id to one)"
        )
    return found


@lru_cache(maxsize=32)
def _of_hub(repository: str) -> Files | str:
    """What is there now; where the hub cannot be reached, what was fetched; without either, why. Asked once: it may be slow."""
    why = ""
    try:
        told = HfApi().model_info(repository, files_metadata=True, timeout=PATIENCE)
        revision, files = told.sha, {file.rfilename: file.lfs.sha256 if file.lfs else None for file in told.siblings or ()}
    except Exception as error:  # no network, no such model, no access: each client of HTTP has errors of its own
        revision, files, why = None, {}, reason_of(error)
    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except OSError:
        return Files(None, repository, revision, files) if revision else why
    return Files(folder, repository, folder.name, files)


@lru_cache(maxsize=32)
def _of(name: str, files: Files) -> ModelIdentity:
    there = files.names
    if not (weights := _weight_files(files)):
        raise ValueError(f"model {name!r}: there is no weight file in {files.folder or files.repository}")
    weights = [*(one for one in SETTINGS if one in there), *weights]
    vocabularies = ["tokenizer.json"] if "tokenizer.json" in there else [one for one in VOCABULARIES if one in there]
    here = files.folder is not None and all((files.folder / one).exists() for one in vocabularies)
    where = str(files.folder) if here else files.repository
    return ModelIdentity(
        name=name,
        weights=digest([[one, files.digest(one)] for one in weights]),
        vocabulary=digest([[one, files.digest(one)] for one in vocabularies]),
        tokenizer=tokenizer_of(name, where, revision=None if here else files.revision),
        revision=files.revision,
    )


def _weight_files(files: Files) -> list[str]:
    """The files that are loaded: a whole one, or the parts that an index names; safetensors first."""
    there = files.names
    for whole, index in WEIGHTS:
        if whole in there:
            return [whole]
        if index in there:
            return sorted(set(json.loads(files.place(index).read_bytes())["weight_map"].values()))
    return sorted(one for one in there if one.endswith((".safetensors", ".bin")))


def digest(plain: Any) -> str:
    """Of JSON."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Of a file's content. That of a large one is kept, and read again only when the file system says another thing of it."""
    path = path.resolve()
    if DIGEST.fullmatch(path.name):  # the hub's cache calls a file by its digest
        return path.name
    if path.stat().st_size < LARGE:
        return _read(path)
    note = cache() / hashlib.sha256(stamp(path).encode()).hexdigest()
    if note.exists() and DIGEST.fullmatch(kept := note.read_text(encoding="ascii")):
        return kept
    found = _read(path)
    with suppress(OSError):  # a home that cannot be written: it is read again next time
        note.parent.mkdir(parents=True, exist_ok=True)
        building = note.with_name(f".{uuid.uuid4().hex}")
        building.write_text(found, encoding="ascii")
        building.rename(note)
    return found


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache() -> Path:
    """The folder of kept digests."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "raybridge" / "digests"
