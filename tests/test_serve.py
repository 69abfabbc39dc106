"""The command that serves: what it refuses before anything starts, and what it hands on."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_engine import engine_of
from small_bridge import finished
from typer.testing import CliRunner

from raybridge import serve
from raybridge.cluster import serving


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("serve") / "ray_results")


@pytest.fixture
def server(target):
    with engine_of(target) as running:
        yield running


def called(*words: object) -> tuple[int, str]:
    """Exit code, and what was said."""
    done = CliRunner().invoke(serve.app, [*map(str, words)])
    assert "Traceback" not in done.output
    return done.exit_code, " ".join(done.output.split())


def test_a_trial_that_is_not_there_is_refused(run, server):
    code, said = called("smal_8tok", "--engine", server.url, "--results", run.root)
    assert code == 2
    assert "unknown trial 'smal_8tok'" in said


def test_an_engine_that_is_not_there_is_a_failure(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        code, said = called(run.path, "--engine", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert code == 1
    assert "error no engine answers at" in said


def test_it_serves_what_was_asked_until_it_is_stopped(run, server, monkeypatch):
    started = []

    @contextmanager
    def serving_(asked: serving.Asked, *, host: str, port: int):
        started.append((asked, host, port))
        yield "http://here/", "what a question takes"
        started.append("ended")

    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serving", serving_)
    monkeypatch.setattr(serve, "until_stopped", stopped)
    monkeypatch.chdir(run.root)
    code, said = called(run.path.relative_to(run.root), "--engine", server.url, "--device", "cpu", "--port", 9000)
    assert code == 0
    asked, host, port = started[0]
    assert (asked.named, asked.engine.model, asked.gpus) == (str(run.path), "pocket:target", 0.0)
    assert (asked.results, host, port) == (Path.cwd() / "ray_results", "127.0.0.1", 9000)
    assert f'http://here/ answers {{"questions": ["..."]}} through {server.url}/v1 (pocket:target)' in said
    assert "what a question takes" in said
