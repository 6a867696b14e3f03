"""Launching the service on machines with few GPUs, which Ray is told to have."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.environment import free_port
from tests.support.client import a_pdf
from tests.support.paths import ROOT

TIMEOUT_S = 240


def run(code: str, *arguments: str) -> dict[str, Any]:
    """Run a script in a process of its own; returns the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.services
@pytest.mark.long
def test_one_gpu_serves_searches_and_uploads(tmp_path: Path) -> None:
    pdf = tmp_path / "quagga.pdf"
    pdf.write_bytes(a_pdf("The quagga was painted in 1793 by Marechal."))
    told = run(ONE_GPU, str(tmp_path / "store"), str(free_port()), str(pdf))
    assert told["job"] == "succeeded"
    assert told["hits"] == ["quagga.pdf"] and told["rerank"] == "cross-encoder"
    assert told["held"] == pytest.approx(2 / 3, abs=0.01)  # and a third is there for uploads
    assert "asks for more: embedder 1 × 1, reranker 1 × 1" in told["refused"]


ONE_GPU = """
import json, sys, time
from pathlib import Path
from cluster.environment import prepare_serving
prepare_serving()
import httpx, ray
from cluster.errors import InvalidInput
from cluster.settings import load_settings
from serve.launch import serving
store, port, pdf = sys.argv[1:]
ray.init(
    address="local", num_gpus=1, num_cpus=24, include_dashboard=False, log_to_driver=False,
    object_store_memory=200_000_000,
)
asked = {"store": store, "port": int(port), "precision": "fp32", "rerank_precision": "fp32"}
told = {}
try:
    whole = {f"{name}_replicas": {"gpus": 1} for name in ("embedder", "reranker")}
    with serving(load_settings(**asked, **whole)):
        pass
except InvalidInput as error:
    told["refused"] = str(error)
with serving(load_settings(**asked)) as url, httpx.Client(base_url=url, timeout=60) as client:
    told["held"] = 1 - ray.available_resources().get("GPU", 0)
    with open(pdf, "rb") as file:
        accepted = client.post("/v1/documents", files={"files": (Path(pdf).name, file)})
    job = accepted.raise_for_status().json()["job_id"]
    while True:
        told["job"] = client.get(f"/v1/jobs/{job}").json()["status"]
        if told["job"] in ("succeeded", "failed"):
            break
        time.sleep(0.5)
    found = client.post("/v1/search", json={"text": "quagga", "rerank": "cross-encoder"}).json()
    told["hits"] = [hit["source"] for hit in found["hits"]]
    told["rerank"] = found["rerank"]
print(json.dumps(told))
"""


@pytest.mark.services
def test_what_does_not_fit_is_said_before_anything_starts() -> None:
    told = run(TOO_MUCH)
    assert "4 × embedder" in told["chosen"] and "min_replicas" in told["chosen"]
    assert "asks for more: embedder 1 × 0.7, reranker 1 × 0.7" in told["set"]


TOO_MUCH = """
import json
import ray
from cluster.environment import free_port
from cluster.errors import InvalidInput
from cluster.settings import load_settings
from serve.launch import serving
ray.init(
    address="local", num_gpus=1, num_cpus=4, include_dashboard=False, log_to_driver=False,
    object_store_memory=100_000_000,
)
told = {}
for name, scaling in {
    "chosen": {"embedder_replicas": {"min_replicas": 4, "max_replicas": 4}},
    "set": {"embedder_replicas": {"gpus": 0.7}, "reranker_replicas": {"gpus": 0.7}},
}.items():
    try:
        with serving(load_settings(**scaling, port=free_port())):
            pass
    except InvalidInput as error:
        told[name] = str(error)
print(json.dumps(told))
"""
