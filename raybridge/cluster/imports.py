"""What a process imports and reads that is to be a training worker. Itself it imports nothing: every process may call it."""

from __future__ import annotations

import importlib
import json
import logging
import os
import time
from collections.abc import Callable

BEGAN = time.time()  # of this process, as near as its imports can tell
ENGINE = "RAYBRIDGE_WORKER_OF"  # tells a process that it is to be a worker, and of which engine
MODELS = "RAYBRIDGE_WORKERS_READ"  # tells it the models of its launch, by names in JSON
# The last two are imported by the first who needs them, on every way to a first step.
WORKERS = ("raybridge.cluster.trainer", "transformers.modeling_utils", "torch._subclasses.fake_tensor")
# The compiler, with what it imports when it is first asked, and the hashes of its files, by which it finds what it has made.
COMPILER = (
    *("torch._dynamo", "torch._inductor.compile_fx", "torch._inductor.codegen.cuda_combined_scheduling"),
    *("torch.export._trace", "sympy.tensor.tensor"),
)
HASHES = (("torch._inductor.codecache", "torch_key"), ("torch._inductor.runtime.triton_compat", "triton_key"))

log = logging.getLogger(__name__)


def import_all() -> None:
    """Import what a worker does, where this process is to be one, and read what its models are, but for their weights.

    Nothing of it may ask for devices: the process is given them later. What fails is left to who needs it: here its error
    would end the process, and say so to nobody.
    """
    engine = os.environ.get(ENGINE)
    if engine is None:
        return
    for name in (*WORKERS, engine):
        _ahead(name, importlib.import_module, name)
    for model in json.loads(os.environ.get(MODELS, "[]")):
        _ahead(f"the tokenizer of {model}", _read, model)
    _ahead("the compiler", _compiler)


def _ahead(what: str, call: Callable[..., object], *told: object) -> None:
    try:
        call(*told)
    except Exception as error:  # an import may raise anything
        log.warning("%s is not imported ahead: %s", what, error)


def _read(model: str) -> None:
    importlib.import_module("raybridge.models.ahead").read(model)


def _compiler() -> None:
    import torch

    if torch.backends.cuda.is_built():
        for name in COMPILER:
            importlib.import_module(name)
        for name, hashed in HASHES:
            getattr(importlib.import_module(name), hashed)()
