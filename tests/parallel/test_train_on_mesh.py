"""The script for several machines, on two agents of torchrun that meet on this one: a mesh of 2 by 2 processes."""

import csv
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
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


def command(endpoint: str) -> list[str]:
    """What is typed on each of two machines, the first of which is at this endpoint."""
    options = ["--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    options += ["--rdzv-endpoint", endpoint, "--rdzv-id", "book"]
    return ["torchrun", *options, "-m", train_on_mesh.__name__, "runs/mesh", "--tensor", "2"]


def as_a_shell_reads(text: str) -> list[str]:
    """The words of the command for several machines in a text; a backslash at a line's end goes on with the next."""
    return shlex.split(re.search(r"torchrun --nnodes [^\\\n]*(?:\\\n[^\\\n]*)*", text)[0].replace("\\\n", ""))


def test_the_command_in_the_chapter_and_in_the_script_is_the_one_that_is_tested():
    cells = nbformat.read(Path(__file__).parents[2] / "book" / "parallelism.ipynb", as_version=4).cells
    (text,) = [cell.source for cell in cells if "torchrun --nnodes" in cell.source]
    assert as_a_shell_reads(text) == command("HOST:29400")
    assert as_a_shell_reads(train_on_mesh.__doc__) == command("HOST:29400")


def test_two_agents_of_two_processes_take_the_steps_of_one_process(tmp_path):
    """As chapter and script start it, with this host twice."""
    _, *options, _, tensor, parts = command(f"127.0.0.1:{free_port()}")
    options = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "127.0.0.1", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK}
    with open(tmp_path / "said", "wb") as said:
        agents = [
            subprocess.Popen([*options, tmp_path / "mesh", tensor, parts, "--trial"], env=environment, stderr=said)
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
