"""What the dashboard shows: names, gauges, how to get in, and the queries of docs/grafana.json. No cluster is started."""

from __future__ import annotations

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from raybridge import HOUSE
from raybridge.analysis.progress import Row
from raybridge.cluster.gauges import OF_TRIALS, tagged, values
from raybridge.cluster.naming import callbacks, job, readable, way_in
from raybridge.cluster.replicas import names_of
from raybridge.cluster.trainer import Driver
from raybridge.cluster.worker_names import NamedWorkers, worker_of
from raybridge.results.headline import Headline, Measured

DEV = Headline(name="dev accuracy", column="accuracy", arm="bridged", control="shuffled", reading="strict")
# Of Prometheus' own (Ray puts ray_ before the names of users, and _total behind counters).
COUNTED = {"ray_raybridge_replica_rows_total"}
SET = {"ray_raybridge_replica_requests_waiting", "ray_raybridge_gpu_memory_gib", *(f"ray_raybridge_{one}" for one in OF_TRIALS)}


@pytest.fixture
def answering():
    """A dashboard that says how it lets people in."""
    told = {"authentication_mode": "token"}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/authentication_mode" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *args: object) -> None:
            """Not to stderr."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_line_of_the_dashboard_says_how_to_get_in(answering, monkeypatch, tmp_path):
    url, told = answering
    (tmp_path / "ray").touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert way_in(url) == f"{url} (it asks for a token, which this prints: ray get-auth-token)"
    monkeypatch.setenv("PATH", "")
    assert way_in(url).endswith(f"{tmp_path}/ray get-auth-token)")  # the environment is not active
    told["authentication_mode"] = "disabled"
    assert way_in(url) == url


def test_a_dashboard_that_does_not_answer_is_told_with_what_may_be_needed():
    assert "does not answer yet" in way_in("http://127.0.0.1:9")
    assert "get-auth-token" in way_in("http://127.0.0.1:9")


def test_actors_and_the_job_have_names_that_a_person_knows():
    assert readable(names_of(2, launch="loss-ablation")[1]) == "replica-1 loss-ablation"
    driver = object.__new__(Driver)
    driver.config = {"job": {"name": "2_stable_64tok"}}
    assert repr(driver) == "2_stable_64tok driver"
    assert repr(object.__new__(worker_of("2_stable_64tok"))) == "2_stable_64tok worker"
    assert job("compression").metadata == {"job_name": "compression"}


def test_train_starts_workers_of_the_class_that_has_the_name(monkeypatch):
    from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

    monkeypatch.setattr(WorkerGroup, "_worker_cls", WorkerGroup._worker_cls)
    NamedWorkers("2_stable_64tok").before_worker_group_start(None)
    assert repr(object.__new__(WorkerGroup._worker_cls)) == "2_stable_64tok worker"


def test_a_gauge_is_set_where_something_is_known():
    begun = Row(name="t", step=0, steps=12, state="waiting", headline=DEV)
    assert values(begun) == {"step": (0.0, "")}
    measured = Measured(value=0.5, control=0.0)
    row = Row(name="t", step=4, steps=12, state="training", headline=DEV, loss=0.5, tokens_per_second=9.0, measured=measured)
    assert values(row) == {
        "step": (4.0, ""),
        "loss": (0.5, ""),
        "tokens_per_second": (9.0, ""),
        "headline": (0.5, "dev accuracy"),
        "control": (0.0, "shuffled"),
    }
    ended = Row(name="t", step=12, steps=12, state="complete", headline=DEV)
    assert values(ended)["seconds_left"] == (0.0, "")


def test_grafana_asks_for_what_is_measured_and_the_page_names_it():
    board = json.loads((HOUSE / "docs/grafana.json").read_text(encoding="utf8"))
    asked = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert set(re.findall(r"ray_raybridge_\w+", asked)) == SET | COUNTED
    assert {panel["id"] for panel in board["panels"]} == set(range(1, len(board["panels"]) + 1))
    page = (HOUSE / "docs/dashboard.md").read_text(encoding="utf8")
    assert all(name in page or name.removeprefix("ray_raybridge") in page for name in SET | COUNTED)


def test_training_goes_on_without_names_under_a_ray_with_another_inside(monkeypatch, caplog):
    assert [type(one) for one in callbacks("2_stable_64tok")] == [NamedWorkers]
    monkeypatch.setitem(sys.modules, "raybridge.cluster.worker_names", None)
    assert callbacks("2_stable_64tok") == []
    assert "training workers have no names in the dashboard" in caplog.text


def test_a_tag_has_no_letter_that_ray_refuses():
    assert tagged(sweep="Straße", trial="2_stable_16tok") == {"sweep": "Stra\\xdfe", "trial": "2_stable_16tok"}
