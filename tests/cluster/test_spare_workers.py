"""Processes that have imported what a worker does before there is a device for it: how many, where, and that Ray takes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import ray

from raybridge.cluster import imports, session, spare_workers
from raybridge.cluster.imports import ENGINE, MODELS
from raybridge.cluster.nodes import Node
from raybridge.cluster.prestarted import HOOK, merged, prestart
from raybridge.cluster.spare_workers import spares, started_ahead
from raybridge.scales import FULL, POCKET, SMALL, Machine


def node(name: str, gpus: int, cpus: float = 64) -> Node:
    return Node(id=name, name=f"name of {name}", gpus=gpus, cpus=cpus)


def on(scale, gpus: int, *nodes: int):
    return scale.resources.on(Machine(gpus=gpus, cpus=128, nodes=tuple(node(str(count), count) for count in nodes)))


def test_the_next_trial_has_a_process_for_each_of_its_workers():
    assert spares([node("a", 4)], on(FULL, 4)) == {"a": 4}
    assert spares([node("a", 4)], on(SMALL, 4)) == {"a": 1}
    assert spares([node("a", 2), node("b", 2)], on(FULL, 4, 2, 2)) == {"a": 2, "b": 2}


def test_models_over_several_gpus_have_one_process():
    wide = replace(FULL.resources, gpus_per_model=2).on(Machine(gpus=8, cpus=128))
    assert spares([node("a", 8)], wide) == {"a": 4}


def test_nothing_is_started_where_nothing_is_waited_for_or_ray_may_choose_another_node_or_cores_are_short():
    assert spares([node("a", 0)], POCKET.resources.on(Machine(gpus=0, cpus=64))) == {}
    assert spares([node("a", 4), node("b", 4)], on(FULL, 8, 4, 4)) == {}
    assert spares([node("a", 4, cpus=7)], on(FULL, 4)) == {}
    assert spares([node("a", 4, cpus=8)], on(FULL, 4)) == {"a": 4}


def test_a_process_that_calls_something_first_keeps_it(monkeypatch):
    """An existing cluster's tells the token; it imports as well."""
    told = {ENGINE: "an.engine"}
    monkeypatch.setattr(spare_workers, "alive", lambda: [node("a", 1)])
    monkeypatch.delenv(HOOK, raising=False)
    environment, (callback,) = started_ahead("an.engine", on(SMALL, 1))
    assert environment["env_vars"] == {**told, HOOK: "raybridge.cluster.imports.import_all"}
    assert callback.spares == {"a": 1}
    monkeypatch.setenv(HOOK, "told")
    environment, _ = started_ahead("an.engine", on(SMALL, 1))
    assert environment["env_vars"] == told
    imported = []
    monkeypatch.setattr(session, "import_all", lambda: imported.append(os.environ[session.SECRET]))
    monkeypatch.delenv(session.SECRET, raising=False)
    session.telling("secret")()
    assert imported == ["secret"]


def test_a_ray_with_another_inside_starts_none_and_that_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(spare_workers, "alive", lambda: [node("a", 1)])
    monkeypatch.setitem(sys.modules, "raybridge.cluster.prestarted", None)
    assert started_ahead("an.engine", on(SMALL, 1)) == ({}, [])
    assert "no processes are started ahead" in caplog.text


ASKED = """
import sys
import torch

def asked(*args):
    raise AssertionError("a device was asked for at import")

for name in ("_cuda_getDeviceCount", "_cuda_init"):
    if hasattr(torch._C, name):  # where torch is built with CUDA
        setattr(torch._C, name, asked)
torch.cuda.is_available = torch.cuda.device_count = asked
from raybridge.cluster.imports import import_all
import_all()
print({"raybridge.training.workload", "ray.train.torch", "transformers.modeling_utils"} <= set(sys.modules))
from raybridge.models import files, identity
print(identity._of.cache_info().currsize, len(files._ahead), "transformers.models.llama.modeling_llama" in sys.modules)
"""


def test_imports_and_what_models_are_ask_for_no_device_which_the_process_is_given_later():
    told = os.environ | {ENGINE: "raybridge.training.workload", MODELS: '["pocket:source", "pocket:target"]'}
    done = subprocess.run([sys.executable, "-c", ASKED], env=told, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "2", "2", "True"], done.stderr


def test_what_cannot_be_imported_ahead_is_left_to_who_needs_it(monkeypatch, caplog):
    monkeypatch.setenv(ENGINE, "an.engine")
    imports.import_all()
    assert "an.engine is not imported ahead: No module named 'an'" in caplog.text


class Where:
    """Says which process it is in."""

    def process(self) -> int:
        return os.getpid()


@pytest.mark.cluster
@pytest.mark.timeout(180)
def test_an_actor_with_gpus_is_put_into_a_process_that_was_started_ahead(tmp_path):
    """Also one that another actor starts: what it is told of its environment is added to that of its parent."""
    hook = tmp_path / "noted.py"
    hook.write_text("import os, pathlib\ndef note(): (pathlib.Path(__file__).parent / f'{os.getpid()}.pid').touch()\n")
    parent = {"env_vars": {"PYTHONPATH": str(tmp_path), "A": "1"}}
    own = {"env_vars": {HOOK: "noted.note", "A": "2"}}

    def within(own: dict) -> tuple[set[int], int]:
        environment = merged(ray.get_runtime_context().runtime_env, own)
        (here,) = ray.nodes()
        prestart(f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}", 1, environment)
        ended = time.monotonic() + 60
        while not (started := {int(path.stem) for path in tmp_path.glob("*.pid")}) and time.monotonic() < ended:
            time.sleep(0.2)
        actor = ray.remote(num_cpus=0, num_gpus=1, runtime_env=own)(Where).remote()
        return started, ray.get(actor.process.remote())

    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        started, taken = ray.get(ray.remote(num_cpus=0, runtime_env=parent)(within).remote(own))
    finally:
        ray.shutdown()
    assert started == {taken}


def test_environments_are_written_as_ray_writes_them():
    assert merged({}, {"env_vars": {"B": "1", "A": "é"}}) == json.dumps({"env_vars": {"A": "é", "B": "1"}})
    told = merged({"working_dir": "w", "env_vars": {"A": "1", "B": "1"}}, {"env_vars": {"A": "2"}})
    assert told == '{"env_vars":{"A":"2","B":"1"},"working_dir":"w"}'
