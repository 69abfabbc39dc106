"""What a process imports and reads that is to be a training worker. Itself it imports nothing: every process may call it."""

from __future__ import annotations

import importlib
import json
import logging
import os
import time

BEGAN = time.time()  # of this process, as near as its imports can tell
ENGINE = "RAYBRIDGE_WORKER_OF"  # tells a process that it is to be a worker, and of which engine
MODELS = "RAYBRIDGE_WORKER_READS"  # tells it of which models, by names in JSON
# The last two are imported by the first who needs them, on every way to a first step; the compiler where something is compiled.
WORKERS = ("raybridge.cluster.trainer", "transformers.modeling_utils", "torch._subclasses.fake_tensor")
COMPILER = ("torch._dynamo", "torch._inductor.compile_fx")


log = logging.getLogger(__name__)


def import_all() -> None:
    """Import what a worker does, where this process is to be one, and read what its models are, but for their weights.

    Nothing of it may ask for devices: the process is given them later. What fails is left to who needs it: here its error
    would end the process, and say so to nobody.
    """
    engine = os.environ.get(ENGINE)
    if engine is None:
        return
    try:
        import torch

        for name in (*WORKERS, engine, *(COMPILER if torch.backends.cuda.is_built() else ())):
            importlib.import_module(name)
        identity = importlib.import_module("raybridge.models.identity")
        for model in json.loads(os.environ.get(MODELS, "[]")):
            identity.model_identity(model)
    except Exception as error:  # an import may raise anything
        log.warning("%s is not imported ahead, and what its models are not read: %s", engine, error)
