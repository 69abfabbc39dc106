"""A bridge before an engine under Ray Serve: what it answers, what it refuses."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from fake_engine import engine_of
from small_bridge import QUESTIONS, finished

import raybridge
from raybridge.cluster import serving
from raybridge.interface.engine import engine_at


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("serving") / "ray_results")


@pytest.fixture(scope="module")
def server(target):
    with engine_of(target) as running:
        yield running


@pytest.fixture
def asked(run, server):
    return serving.Asked(named=str(run.path), engine=engine_at(server.url), results=run.root, device="cpu")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"questions": "How many?"}', b'{"question": ["How many?"]}', b"\xff"])
def test_a_body_that_is_no_request_is_refused(body):
    with pytest.raises(ValueError, match="a request is JSON"):
        serving.read(body)


def test_a_body_is_questions_and_whether_exemplars_stand_before_them():
    assert serving.read(b'{"questions": ["a"]}') == (["a"], True)
    assert serving.read(b'{"questions": ["a"], "shots": false}') == (["a"], False)
    with pytest.raises(ValueError, match='"shots" must be true or false'):
        serving.read(b'{"questions": ["a"], "shots": 1}')


def test_a_replica_answers_and_says_what_it_refuses(asked, run, monkeypatch):
    pytest.importorskip("starlette", reason="the optional extra serve")
    replica = serving.Replica(asked)

    def ask(told: object) -> tuple[int, dict]:
        async def body() -> bytes:
            return json.dumps(told).encode()

        answer = asyncio.run(replica(SimpleNamespace(body=body)))
        return answer.status_code, json.loads(answer.body)

    code, told = ask({"questions": QUESTIONS})
    assert code == 200
    assert [one["text"] for one in told["answers"]] == raybridge.load(run.path, device="cpu").answer(QUESTIONS)
    assert ask({"questions": [" "]}) == (400, {"error": "question 0 must be text that is not empty, not ' '"})

    def gone(*_: object) -> None:
        raise RuntimeError("no engine answers")

    monkeypatch.setattr(type(replica.served.engine), "complete", gone)
    assert ask({"questions": QUESTIONS}) == (502, {"error": "no engine answers"})


def test_without_ray_serve_its_extra_is_named(asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with (
        pytest.raises(ValueError, match=r"Ray Serve is not installed .*pip install 'raybridge\[serve\]'"),
        serving.serving(asked, host="127.0.0.1", port=8000),
    ):
        raise AssertionError("it must not come to this")


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")  # of Ray Serve's own dependencies
def test_served_under_ray_it_answers_as_the_bridge_itself(asked, run):
    pytest.importorskip("ray.serve", reason="the optional extra serve", exc_type=ImportError)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def ask(url: str, told: object) -> dict:
        with urlopen(Request(url, data=json.dumps(told).encode()), timeout=120) as answer:
            return json.loads(answer.read())

    with serving.serving(asked, host="127.0.0.1", port=port) as (url, payload):
        assert url == f"http://127.0.0.1:{port}/"
        assert "8 of them soft tokens" in payload
        told = ask(url, {"questions": QUESTIONS})
        with pytest.raises(HTTPError) as refused:
            ask(url, {"questions": []})
    assert [one["text"] for one in told["answers"]] == raybridge.load(run.path, device="cpu").answer(QUESTIONS)
    assert (refused.value.code, json.loads(refused.value.read())) == (400, {"error": "there are no questions"})
