"""Two workers of one trial as two processes over gloo."""

from __future__ import annotations

import multiprocessing
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

from raybridge.world import World

# Imported once, by a server that has no threads and that the workers are forks of: it takes them as long as all else.
IMPORTED = ["raybridge.training.loop", "raybridge.evaluation.answerer", "transformers.models.llama.modeling_llama"]


def on_two_workers(work: Callable[..., Any], *given: Any, seconds: float = 200) -> list[Any]:
    """What a function of a world and these arguments returns on rank 0 and on rank 1; its first error ends both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    queue = context.Queue()
    workers = [context.Process(target=_worker, args=(rank, port, work, given, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    try:
        told = {}
        for _ in workers:
            rank, value, error = queue.get(timeout=seconds)
            assert error is None, f"worker {rank}: {error}"
            told[rank] = value
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            worker.terminate()
    return [told[rank] for rank in range(2)]


def _worker(rank: int, port: int, work: Callable[..., Any], given: tuple[Any, ...], queue: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        queue.put((rank, work(World(rank=rank, size=2), *given), None))
    except Exception:
        queue.put((rank, None, traceback.format_exc()))
    torch.distributed.destroy_process_group()
