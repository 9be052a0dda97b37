"""The launcher: results in order, and an end to everything, whatever a process does.

What is left behind is looked for by the launch's own folder: its processes carry it in their command line.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from llmlib.parallel import (
    WorkerFailed,
    demonstration,
    group_backend,
    joined,
    launch,
    process_device,
    run_workers,
)

sys.path.insert(0, str(Path(__file__).parent))
import functions


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of all temporary files; after the test no process of the launch is alive and no file left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not left_alive(tmp_path)
    assert not list(tmp_path.iterdir())


def left_alive(folder) -> list[str]:
    listed = subprocess.run(["ps", "-ww", "-eo", "stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and not line.startswith("Z")]


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_importing_the_package_does_not_import_torch():
    code = "import sys, llmlib.parallel; from llmlib.parallel import run_workers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("fork", [launch.FORK, False])
def test_results_and_prints_come_in_order_of_rank(place, capfd, monkeypatch, fork):
    monkeypatch.setattr(launch, "FORK", fork)
    lines = []
    numbers = torch.arange(3.0)
    results = run_workers(functions.echo, 3, numbers, "a word", threads=2, follow=lines.append)
    assert [result[0] for result in results] == [0, 1, 2]
    for rank, (_, total, threads, places, pid, backend) in enumerate(results):
        assert torch.equal(total, numbers * 6)
        assert (threads, backend) == (2, "gloo")
        assert places == (str(rank), "3", str(rank), "3")
        assert pid != os.getpid()
    assert torch.equal(numbers, torch.arange(3.0))  # the workers had copies
    printed = capfd.readouterr()
    assert printed.out == "".join(f"rank {rank} heard a word\n" for rank in range(3))
    assert printed.err == ""
    assert lines[0].startswith("0 of 3 processes are done")
    assert lines[-1] == "3 of 3 processes are done"  # no time in it: a stored notebook stays the same


def test_the_traceback_of_the_worker_that_failed_first_is_the_callers_error(place):
    with pytest.raises(WorkerFailed) as caught:
        run_workers(functions.later_failure, 2)
    assert caught.value.rank == 1
    assert str(caught.value).startswith("Process 1 of 2 failed: KeyError: 'the cause'")
    assert 'raise KeyError("the cause")' in str(caught.value)
    assert "consequence" not in str(caught.value)


def test_one_of_four_is_killed(place):
    """While the others wait for it in an all-reduce, which fails them, too."""
    with pytest.raises(WorkerFailed, match=r"Process 2 of 4 was killed by signal 9 \(SIGKILL\)") as caught:
        run_workers(demonstration.fail_on, 4, 2, "kill")
    assert caught.value.rank == 2


def test_a_death_is_told_within_the_stated_time(place, tmp_path_factory):
    """From the moment that the process itself notes just before, by the clock that all processes of a machine share."""
    noted = tmp_path_factory.mktemp("noted") / "time"
    with pytest.raises(WorkerFailed, match=r"Process 2 of 4 was killed by signal 9 \(SIGKILL\)"):
        run_workers(functions.killed_among_sleepers, 4, noted)
    assert 0 < time.monotonic() - float(noted.read_text()) < 3


def test_tensors_on_processors_go_by_gloo_and_those_on_gpus_by_nccl(monkeypatch):
    """The rule, on a machine that says it has two GPUs: one for each of two processes, too few for three."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for processes, device, backend in [
        (2, torch.device("cuda", 1), "cpu:gloo,cuda:nccl"),
        (3, torch.device("cpu"), "gloo"),
    ]:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert process_device() == device
        assert group_backend(device) == backend


def test_a_deadlock_ends_in_the_stated_time_and_names_the_line(place):
    begin = time.monotonic()
    with pytest.raises(WorkerFailed) as caught:
        run_workers(demonstration.fail_on, 2, 0, "deadlock", seconds=8)
    assert 8 <= time.monotonic() - begin < 8 + 3
    assert str(caught.value).startswith("After 8 s, 2 of 2 processes were not done (rank 0, 1), and all were ended.")
    assert str(caught.value).count("demonstration.py") == 2  # where each of them waits


def test_a_result_that_cannot_be_sent(place):
    with pytest.raises(WorkerFailed, match=r"Process 0 of 1 failed: .*pickle"):
        run_workers(functions.unpicklable, 1)


def test_nothing_outlives_a_caller_that_is_killed(tmp_path):
    """Its workers wait in a deadlock; files stay where the caller can no longer remove them, processes do not."""
    code = "from llmlib.parallel import *; from llmlib.parallel import demonstration as d; "
    code += "run_workers(d.fail_on, 2, 0, 'deadlock', seconds=60)"
    caller = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)})
    try:
        wait_for(lambda: list(tmp_path.glob("llmlib-*/1.stack")))
        assert len(left_alive(tmp_path)) == 3
    finally:
        caller.kill()
        caller.wait()
    wait_for(lambda: not left_alive(tmp_path), 3)


def test_a_notebooks_interrupt_ends_all(tmp_path):
    """In a real kernel, interrupted as JupyterLab does it; and a function of the notebook itself is refused."""
    from jupyter_client import KernelManager

    manager = KernelManager()
    manager.start_kernel(env=os.environ | {"TMPDIR": str(tmp_path)})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        code = "from llmlib.parallel import *; from llmlib.parallel import demonstration\ndef here(): pass\n"
        client.execute_interactive(code, timeout=60)
        refused = client.execute_interactive("run_workers(here, 2)", timeout=60, output_hook=lambda message: None)
        assert "other processes cannot import it; put it into a file" in refused["content"]["evalue"]

        client.execute("run_workers(demonstration.fail_on, 2, 0, 'deadlock', seconds=60)")
        wait_for(lambda: list(tmp_path.glob("llmlib-*/1.stack")))
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=5)["content"]["ename"] == "KeyboardInterrupt"
        assert not left_alive(tmp_path)
        assert not list(tmp_path.glob("llmlib-*"))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_what_cannot_be_run_is_refused_in_a_sentence(place):
    for processes in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match=r"processes is .*; it has to be a whole number of at least 1"):
            run_workers(demonstration.rank_and_sum, processes)
    with pytest.raises(ValueError, match="threads is 0; each process has a whole number of them"):
        run_workers(demonstration.rank_and_sum, 1, threads=0)
    with pytest.raises(ValueError, match="seconds is 0; give the time"):
        run_workers(demonstration.rank_and_sum, 1, seconds=0)
    with pytest.raises(ValueError, match="give a function that stands in a module"):
        run_workers(lambda: None, 1)
    with pytest.raises(ValueError, match="arguments cannot be sent to other processes"):
        run_workers(functions.echo, 1, lambda: None, "")


def test_windows_is_told_where_it_works(place, monkeypatch):
    with monkeypatch.context() as pretended:
        pretended.setattr(launch.os, "name", "nt")
        pretended.setattr(subprocess, "Popen", None)  # nothing is started
        with pytest.raises(RuntimeError, match=r"Windows cannot run these processes; use Linux or macOS, or .*WSL"):
            run_workers(demonstration.rank_and_sum, 2)


def test_a_process_that_no_launcher_started_is_told_how():
    with pytest.raises(RuntimeError, match=r"RANK and .* are not set.*start it with `torchrun"), joined():
        pass


def test_signals_have_names():
    assert launch._signal_name(signal.SIGTERM) == "signal 15 (SIGTERM)"
    assert launch._signal_name(99) == "signal 99"
