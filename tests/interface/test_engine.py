"""A bridge before an engine that speaks as vLLM does: what travels, what comes back, and what is said where it fails."""

from __future__ import annotations

import base64
import io
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from fake_engine import engine_of
from small_bridge import QUESTIONS

import raybridge
from raybridge.interface.beginnings import Beginnings
from raybridge.interface.engine import Engine, Limits, encoded, engine_at, values_bytes
from raybridge.interface.served import load
from raybridge.models import lm as lms

LIMITS = Limits(max_new_tokens=4, stop=("Question:",), end_ids=(0,))


@pytest.fixture(scope="module")
def server(target):
    with engine_of(target) as running:
        yield running


@pytest.fixture
def served(run, server):
    return load(run.path, engine_at(server.url), device="cpu")


def test_answers_through_an_engine_are_those_of_the_bridge_itself(run, server, served):
    server.seen.clear()
    answers = served.answer(QUESTIONS)
    bridge = raybridge.load(run.path, device="cpu")
    assert [one.text for one in answers] == bridge.answer(QUESTIONS)
    assert {one.finish for one in answers} <= {"stop", "length"}
    (asked,) = server.seen
    assert asked["max_tokens"] == bridge.evaluator.max_new_tokens == 20
    assert asked["stop"] == list(bridge.evaluator.stop)
    for payload, prompt_TD, one in zip(asked["prompt_embeds"], bridge.embedded(QUESTIONS), answers, strict=True):
        arrived_TD = server.embeds(payload)
        assert arrived_TD.dtype == prompt_TD.dtype
        torch.testing.assert_close(arrived_TD, prompt_TD)
        assert (one.positions, one.payload) == (len(prompt_TD), len(payload))


def test_a_payload_is_the_tensor_alone_and_as_large_as_is_told():
    whole = torch.randn(64, 4096).to(torch.bfloat16)
    payload = encoded(whole[:16])
    assert torch.equal(torch.load(io.BytesIO(base64.b64decode(payload, validate=True)), weights_only=True), whole[:16])
    assert 0 < len(payload) - values_bytes(16, 4096) < 4096
    assert values_bytes(16, 4096) / 1024 == pytest.approx(171, abs=0.5)  # KiB
    assert values_bytes(16, 4096) == len(base64.b64encode(bytes(16 * 4096 * 2)))


def test_what_a_question_takes_on_the_wire_is_said(served):
    (prompt_TD,) = served.bridge.embedded(["How many?"])
    kib = values_bytes(len(prompt_TD), 160, value_bytes=4) / 1024
    assert f"{len(prompt_TD)} embeddings of width 160 ({kib:.0f} KiB in base64), 8 of them soft tokens" in served.payload()


def test_of_the_target_only_its_beginning_is_here(run, served, target):
    served.payload()
    here = served.bridge.models.load("pocket:target")
    assert isinstance(served.bridge.models, Beginnings)
    assert len(here.layers) == 0
    assert served.bridge.models.load("pocket:source").depth == len(served.bridge.models.load("pocket:source").layers)
    ids = torch.arange(20)
    assert torch.equal(here.embed(ids), target.embed(ids))
    assert here.embedding_rms == target.embedding_rms
    both = Beginnings("cpu", target="pocket:source", source="pocket:source")
    assert len(both.load("pocket:source").layers) > 0


def test_the_engines_model_is_found_or_named(server):
    assert engine_at(server.url) == engine_at(f"{server.url}/v1/", "pocket:target")
    with pytest.raises(ValueError, match="serves no model 'llama'; valid: pocket:target"):
        engine_at(server.url, "llama")


def test_an_engine_that_refuses_is_quoted(server):
    engine = engine_at(server.url)
    with pytest.raises(ValueError, match=r"refused \(400\): `prompt_embeds` hidden_size 7 does not match the model's 160"):
        engine.complete([torch.zeros(3, 7)], Limits(max_new_tokens=4, stop=(), end_ids=tuple(server.lm.end_ids)))


def test_where_nothing_answers_the_command_that_starts_an_engine_is_said():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(RuntimeError, match=r"no engine answers at .*vllm serve TARGET --enable-prompt-embeds"):
            engine_at(f"http://127.0.0.1:{free.getsockname()[1]}")


@pytest.fixture
def saying():
    """A server that gives one answer to everything: (code, body)."""
    told: list[tuple[int, bytes]] = []

    class Says(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told_headers.append(dict(self.headers))
            self.rfile.read(int(self.headers["Content-Length"]))
            code, body = told[-1]
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Nothing."""

    told_headers: list[dict[str, str]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Says) as running:
        thread = Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield Engine(url=f"http://127.0.0.1:{running.server_address[1]}/v1", model="m"), told, told_headers
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "body", "says"),
    [
        (200, b"<html>", "answered with no JSON"),
        (200, b"[]", "answered with no object"),
        (200, json.dumps({"choices": []}).encode(), "gave 0 completions for 1 prompts"),
        (500, b"Internal Server Error\nmore", r"refused \(500\): Internal Server Error$"),
        (503, b"", r"refused \(503\): it said nothing"),
    ],
)
def test_an_engine_that_fails_is_a_failure_and_no_answer(saying, code, body, says):
    engine, told, _ = saying
    told.append((code, body))
    with pytest.raises(RuntimeError, match=says):
        engine.complete([torch.zeros(2, 4)], LIMITS)


def test_a_key_is_sent_where_there_is_one(saying, monkeypatch):
    engine, told, headers = saying
    told.append((200, json.dumps({"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}).encode()))
    engine.complete([torch.zeros(2, 4)], LIMITS)
    monkeypatch.setenv("RAYBRIDGE_ENGINE_KEY", "secret")
    engine.complete([torch.zeros(2, 4)], LIMITS)
    assert [one.get("Authorization") for one in headers] == [None, "Bearer secret"]


def test_values_travel_in_the_precision_of_the_target():
    lm = lms.load("pocket:target", device="cpu", dtype=torch.bfloat16)
    ids = torch.arange(5)
    arrived = torch.load(io.BytesIO(base64.b64decode(encoded(lm.embed(ids)))), weights_only=True)
    assert arrived.dtype == torch.bfloat16
