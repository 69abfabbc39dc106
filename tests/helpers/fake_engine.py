"""A small server that speaks as a vLLM with --enable-prompt-embeds does: it checks what comes in, and decodes it greedily."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor

from raybridge.models.decode import greedy
from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import Piece


class FakeEngine(ThreadingHTTPServer):
    """Serves one model. seen: the bodies of the requests for completions."""

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lm = lm
        self.seen: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def embeds(self, payload: str) -> Tensor:
        """One prompt, held to what vLLM holds it to."""
        tensor = torch.load(io.BytesIO(base64.b64decode(payload, validate=True)), weights_only=True, map_location="cpu")
        if not isinstance(tensor, torch.Tensor) or tensor.dim() != 2:
            raise ValueError("`prompt_embeds` must be a 2D tensor of shape (num_tokens, hidden_size)")
        if tensor.shape[1] != self.lm.width:
            raise ValueError(f"`prompt_embeds` hidden_size {tensor.shape[1]} does not match the model's {self.lm.width}")
        if not tensor.is_floating_point():
            raise ValueError("`prompt_embeds` dtype is not a floating-point type")
        return tensor

    def completed(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request for completions."""
        self.seen.append(asked)
        assert asked["temperature"] == 0.0
        assert "prompt" not in asked
        assert set(asked["stop_token_ids"]) == set(self.lm.end_ids)
        choices = []
        for index, payload in enumerate(asked["prompt_embeds"]):
            embeds_TD = self.embeds(payload).to(self.lm.model.dtype)
            piece = Piece(embeds_BTD=embeds_TD[None], mask_BT=torch.ones(1, len(embeds_TD), dtype=torch.bool))
            (done,) = greedy(self.lm, [piece], max_new_tokens=asked["max_tokens"], stop=asked["stop"])
            finish = "length" if done.truncated else "stop"
            choices.insert(0, {"index": index, "text": done.text, "finish_reason": finish})  # in no order that is promised
        return {"object": "text_completion", "choices": choices}


class Handler(BaseHTTPRequestHandler):
    server: FakeEngine

    def do_GET(self) -> None:
        self._say(200, {"data": [{"id": self.server.lm.name}]} if self.path == "/v1/models" else {"error": "?"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            assert self.path == "/v1/completions"
            self._say(200, self.server.completed(asked))
        except ValueError as error:
            self._say(400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}})

    def _say(self, code: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Nothing."""


@contextmanager
def engine_of(lm: FrozenLM) -> Iterator[FakeEngine]:
    """The server, running."""
    with FakeEngine(lm) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
