"""A running vLLM that is asked with prompts of embeddings, through its Completions API.

The engine is started with `--enable-prompt-embeds`. A request carries `prompt_embeds`: for each prompt a 2-D tensor of floats
as `torch.save` writes it, in base64 (docs.vllm.ai, Prompt Embedding Inputs). The API puts no chat template around them: what is
sent is the whole prompt. `prompt` is left out, for an empty one would be a prompt more. The log-likelihood of a prompt's
tokens is not to be had this way, so NLL is not measured through an engine.

Shapes: T positions of a prompt, D target width.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
from torch import Tensor

KEY = "RAYBRIDGE_ENGINE_KEY"  # environment: the engine's API key, where it asks for one
PATIENCE = 600.0  # seconds: an engine that is busy answers late


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What an engine answered. finish: stop or length. positions: T of its prompt. payload: bytes of the prompt in base64."""

    text: str
    finish: str
    positions: int
    payload: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When an answer ends. end_ids: tokens that end it. stop: texts before which it ends."""

    max_new_tokens: int
    stop: tuple[str, ...]
    end_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine at a URL, up to `/v1`. model: as the engine calls it."""

    url: str
    model: str
    patience: float = PATIENCE

    def complete(self, prompts: Sequence[Tensor], limits: Limits) -> list[Answered]:
        """Greedy completions of prompts (T, D) each. ValueError for what the engine refuses, RuntimeError where it fails."""
        payloads = [encoded(prompt) for prompt in prompts]
        asked = {
            "model": self.model,
            "prompt_embeds": payloads,
            "max_tokens": limits.max_new_tokens,
            "temperature": 0.0,
            "stop": list(limits.stop),
            "stop_token_ids": list(limits.end_ids),
        }
        told = asked_of(f"{self.url}/completions", asked, patience=self.patience)
        choices = sorted(told.get("choices", ()), key=lambda choice: choice["index"])
        if [choice["index"] for choice in choices] != list(range(len(prompts))):
            raise RuntimeError(f"{self.url} gave {len(choices)} completions for {len(prompts)} prompts")
        return [
            Answered(text=choice["text"], finish=str(choice["finish_reason"]), positions=len(prompt), payload=len(payload))
            for choice, prompt, payload in zip(choices, prompts, payloads, strict=True)
        ]


def engine_at(url: str, model: str | None = None) -> Engine:
    """The engine that answers at a URL, with or without `/v1`. model: None for the only one that it serves."""
    base = url.rstrip("/").removesuffix("/v1") + "/v1"
    served = [one["id"] for one in asked_of(f"{base}/models").get("data", ())]
    if model is None and len(served) != 1:
        raise ValueError(f"{base} serves {', '.join(served) or 'no model'}; --model says which is the target")
    if model is not None and model not in served:
        raise ValueError(f"{base} serves no model {model!r}; valid: {', '.join(served) or 'none'}")
    return Engine(url=base, model=model or served[0])


def encoded(embeds_TD: Tensor) -> str:
    """A prompt as it travels: the tensor alone, whatever storage it is a part of."""
    file = io.BytesIO()
    torch.save(embeds_TD.detach().to("cpu", copy=True).contiguous(), file)
    return base64.b64encode(file.getvalue()).decode("ascii")


def values_bytes(positions: int, width: int, *, value_bytes: int = 2) -> int:
    """Bytes in base64 of so many positions' values alone; `torch.save` adds about 1.5 KB to a prompt."""
    return -(-positions * width * value_bytes // 3) * 4


def asked_of(url: str, body: Mapping[str, Any] | None = None, *, patience: float = 10.0) -> dict[str, Any]:
    """What an engine answers to JSON, or to nothing."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, data=None if body is None else json.dumps(body).encode(), headers=headers)
    try:
        with urlopen(request, timeout=patience) as answer:
            told = json.loads(answer.read())
    except HTTPError as error:
        kind = ValueError if 400 <= error.code < 500 else RuntimeError
        raise kind(f"{url} refused ({error.code}): {_reason(error.read())}") from None
    except (URLError, TimeoutError, ConnectionError) as error:
        why = getattr(error, "reason", error)
        raise RuntimeError(
            f"no engine answers at {url} ({why}); one is started with: vllm serve TARGET --enable-prompt-embeds"
        ) from None
    except ValueError:
        raise RuntimeError(f"{url} answered with no JSON; is it an engine's?") from None
    if not isinstance(told, dict):
        raise RuntimeError(f"{url} answered with no object; is it an engine's?")
    return told


def _reason(body: bytes) -> str:
    """What an engine says of its refusal: the message of its JSON, or the first line."""
    text = body.decode(errors="replace")
    try:
        told = json.loads(text)
        told = told.get("error", told)
        return str(told["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return (text.strip().splitlines() or ["it said nothing"])[0][:500]
