"""The script for several machines, on two agents of torchrun that meet on this one: a mesh of 2 by 2 processes."""

import csv
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from llmlib.experiments import train_on_mesh
from llmlib.experiments.train_story_model import TRIAL, train
from llmlib.parallel.launch import LOOPBACK


def losses(folder):
    with open(folder / "records.csv", newline="") as file:
        return [float(line["loss"]) for line in csv.DictReader(file)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_agents_of_two_processes_take_the_steps_of_one_process(tmp_path):
    """As the script's own description starts it, with this host twice."""
    options = ["--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-id", "book"]
    options += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--local-addr", "127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", train_on_mesh.__name__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK}
    with open(tmp_path / "said", "wb") as said:
        agents = [
            subprocess.Popen([*command, tmp_path / "mesh", "--tensor", "2", "--trial"], env=environment, stderr=said)
            for _ in range(2)
        ]
        try:
            train(tmp_path / "alone", TRIAL)  # meanwhile
            codes = [agent.wait(240) for agent in agents]
        finally:
            for agent in agents:
                agent.kill()
    assert codes == [0, 0], (tmp_path / "said").read_text()
    assert losses(tmp_path / "mesh") == pytest.approx(losses(tmp_path / "alone"), rel=1e-3)
    assert len(losses(tmp_path / "mesh")) == 20
    alone, mesh = (load_file(tmp_path / folder / "model.safetensors") for folder in ("alone", "mesh"))
    assert alone.keys() == mesh.keys()
    for name, weight in alone.items():
        torch.testing.assert_close(weight, mesh[name], rtol=0, atol=5e-3)  # half precision, and Adam's small steps


def test_processes_that_do_not_make_a_mesh_are_refused(monkeypatch):
    monkeypatch.setattr(train_on_mesh.dist, "get_world_size", lambda: 4)
    with pytest.raises(
        ValueError, match="4 processes cannot be arranged as models cut over 3 each; start a multiple of 3"
    ):
        train_on_mesh.train_on_mesh(None, TRIAL, 3, torch.device("cpu"))
