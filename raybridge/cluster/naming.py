"""Names that a person knows for what the dashboard lists: drivers, training workers, replicas, the job itself."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

from ray.job_config import JobConfig

PATIENCE = 5.0  # seconds that a dashboard has to say whether it asks for a token

log = logging.getLogger(__name__)


def job(name: str) -> JobConfig:
    """A job under a name: the dashboard's page of jobs shows this key of the metadata."""
    return JobConfig(metadata={"job_name": name})


def readable(replica: str) -> str:
    """A replica's name as `replicas.names_of` makes it, without the mark that tells launches apart."""
    launch, _, kind, number = replica.rsplit("-", 3)
    return f"{kind}-{number} {launch}"


def callbacks(trial: str) -> list[Any]:
    """What has Train call a trial's workers by its name; none, and that is logged, under a Ray whose inside is another."""
    try:
        from raybridge.cluster.worker_names import NamedWorkers
    except ImportError as error:
        log.warning("training workers have no names in the dashboard, for this Ray has another inside (%s)", error)
        return []
    return [NamedWorkers(trial)]


def way_in(url: str) -> str:
    """A dashboard's address and, where it asks for a token, how to get it."""
    try:
        with urllib.request.urlopen(f"{url}/api/authentication_mode", timeout=PATIENCE) as answer:
            asks = json.load(answer)["authentication_mode"] == "token"
    except (OSError, ValueError, KeyError) as error:
        return f"{url} (does not answer yet: {error}; if it asks for a token: {_ray()} get-auth-token)"
    return f"{url} (it asks for a token, which this prints: {_ray()} get-auth-token)" if asks else url


def _ray() -> str:
    """Ray's own command as a person types it here."""
    own = Path(sys.executable).with_name("ray")
    found = shutil.which("ray")
    return "ray" if found is not None and Path(found).absolute() == own.absolute() else str(own)
