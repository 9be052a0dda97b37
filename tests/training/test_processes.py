"""Several processes that share each batch take the steps of one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file
from torch.testing import assert_close

WORKER = Path(__file__).with_name("worker.py")


def test_two_processes_learn_what_one_learns(tmp_path):
    """The same sums in another order; AdamW divides by a gradient's size, which makes much of a rounding where the
    gradient is next to nothing: a weight may differ by a hundredth of what 20 steps of 0.01 can move it."""
    specification = importlib.util.spec_from_file_location("worker", WORKER)
    worker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(worker)
    alone = worker.train()

    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    processes = [
        subprocess.Popen([sys.executable, WORKER, str(rank), "2", tmp_path], env=environment) for rank in range(2)
    ]
    try:
        assert [process.wait(100) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (load_file(tmp_path / f"{rank}.st") for rank in range(2))
    for name, tensor in first.items():
        assert_close(tensor, second[name], atol=0, rtol=0)  # both end with the very same weights
        atol = 1e-5 if name == "numbers" else 2e-3
        assert_close(tensor, alone[name], atol=atol, rtol=1e-4)
    assert alone["numbers"][-1, 0] < alone["numbers"][0, 0]
