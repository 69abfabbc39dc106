"""A bridge before an engine as a deployment of Ray Serve: replicas that run source and translator, behind one HTTP address.

POST /  {"questions": ["..."], "shots": true}
->      {"answers": [{"text": "...", "finish": "stop", "positions": 46, "payload": 502732}]}
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raybridge.cluster.machine import here
from raybridge.cluster.session import connected, shipped
from raybridge.interface.engine import Engine
from raybridge.interface.served import load

NAME = "raybridge"
AT_ONCE = 64  # requests that a replica holds, most of which wait for the engine


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is served. named: a trial, bundle or saved bridge. replicas: how many, on `gpus` GPUs each."""

    named: str
    engine: Engine
    results: Path
    device: str
    on: str | None = None
    replicas: int = 1
    gpus: float = 0.0


class Replica:
    """Source, translator and the target's beginning in one process. One question batch is translated at a time."""

    def __init__(self, asked: Asked) -> None:
        self.served = load(asked.named, asked.engine, results=asked.results, device=asked.device, on=asked.on)
        self._alone = asyncio.Lock()

    def payload(self) -> str:
        """What a question takes on the wire. ValueError where an engine cannot answer for this bridge."""
        return self.served.payload()

    async def __call__(self, request: Any) -> Any:
        """Answer a request of starlette's."""
        from starlette.responses import JSONResponse

        try:
            questions, shots = read(await request.body())
            async with self._alone:
                prompts = await asyncio.to_thread(self.served.bridge.embedded, questions, shots=shots)
            answers = await asyncio.to_thread(self.served.engine.complete, prompts, self.served.limits)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except RuntimeError as error:
            return JSONResponse({"error": str(error)}, status_code=502)
        return JSONResponse({"answers": [asdict(one) for one in answers]})


def read(body: bytes) -> tuple[list[str], bool]:
    """(questions, whether exemplars stand before them) of a request. ValueError says what it should be."""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("questions"), list):
        raise ValueError('a request is JSON: {"questions": ["..."]}, and "shots": false for no exemplars')
    if not isinstance(told.get("shots", True), bool):
        raise ValueError('"shots" must be true or false')
    return told["questions"], told.get("shots", True)


@contextmanager
def serving(asked: Asked, *, host: str, port: int) -> Iterator[tuple[str, str]]:
    """The deployment running, ended on the way out; yields its URL and what a question takes on the wire."""
    try:
        from ray import serve
    except ImportError as error:
        raise ValueError(f"Ray Serve is not installed ({error}); pip install 'raybridge[serve]'") from error
    for name in ("ray.serve", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options: dict[str, Any] = {"num_gpus": here().gpus, "include_dashboard": False}
    with connected(**({"runtime_env": shipped()} if os.environ.get("RAY_ADDRESS") else options)):
        serve.start(http_options={"host": host, "port": port})
        deployment = serve.deployment(
            Replica,
            name=NAME,
            num_replicas=asked.replicas,
            max_ongoing_requests=AT_ONCE,
            ray_actor_options={"num_cpus": 1, "num_gpus": asked.gpus},
        )
        try:
            handle = serve.run(deployment.bind(asked), name=NAME, route_prefix="/")
            yield f"http://{host}:{port}/", handle.payload.remote().result()
        finally:
            serve.shutdown()
