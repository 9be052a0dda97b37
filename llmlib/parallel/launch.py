"""Runs a function on several processes, and brings back what each returns.

A process that raises, dies or hangs ends them all, with a sentence that says which it was; whatever happens, no
process, port or file stays behind. The processes meet through a file, so that no port can be taken already.

One more process, the host (`llmlib.parallel.host`), stands between the caller and the workers: it imports torch once
and forks, so that four workers start in little more than the time of one, and it outlives the caller by no more than a
moment, because it watches a pipe that closes when the caller ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

FORK = sys.platform == "linux"  # elsewhere a process that has loaded system libraries must not be forked
GRACE_SECONDS = 0.5  # after a failure: the others' failures that it causes may be noticed first
_NOT_ITS_OWN = ("/llmlib/parallel/host.py", "<frozen runpy>", "c10d_logger.py")  # of a worker's stack
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


class WorkerFailed(RuntimeError):
    """A worker raised, died or did not finish; the message says which, and holds its traceback."""

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank  # of the process that failed first; None if they did not finish


def run_workers(
    worker: Callable[..., Any],
    processes: int,
    *arguments: Any,
    seconds: float = 60.0,
    threads: int = 1,
    backend: str | None = None,
    follow: Callable[[str], object] | None = None,
) -> list[Any]:
    """What `worker(*arguments)` returns on each of `processes` processes, in order of rank.

    `worker` is a function of a module: the processes import it. Inside it, `torch.distributed` is ready, with all
    processes in one group (`group_backend` says what carries their tensors, unless `backend` does), and torch uses
    `threads` threads. What workers print is shown at the end, in order of rank. `follow` is called with one line that
    says how many are done.

    Raises WorkerFailed with the traceback of the worker that failed first; if one is killed, within 3 seconds; and
    after `seconds` if they are not all done, with the line where each waits. Raises ValueError for what cannot be run,
    and RuntimeError on Windows, which lacks the signals and pipes that this needs.

    >>> from llmlib.parallel import demonstration
    >>> run_workers(demonstration.rank_and_sum, 2)  # each contributes its rank + 1
    [(0, 3.0), (1, 3.0)]
    """
    if os.name == "nt":
        raise RuntimeError("Windows cannot run these processes; use Linux or macOS, or Linux inside Windows (WSL).")
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise ValueError(f"processes is {processes!r}; it has to be a whole number of at least 1.")
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}; each process has a whole number of them, at least 1.")
    if not seconds > 0:
        raise ValueError(f"seconds is {seconds!r}; give the time after which to stop waiting, above 0.")
    job = _address(worker) | {
        "processes": processes,
        "threads": threads,
        "backend": backend,
        "fork": FORK,
        "arguments": _pickled(arguments),
    }
    folder = Path(tempfile.mkdtemp(prefix="llmlib-"))
    try:
        (folder / "job").write_bytes(pickle.dumps(job))
        with _Host(folder, processes, threads) as host:
            failed = host.wait(time.monotonic() + seconds, follow or (lambda line: None))
            if failed is not None:
                raise failed if isinstance(failed, WorkerFailed) else host.overdue(seconds)
        _show_prints(folder, processes)
        return [pickle.loads((folder / f"{rank}.result").read_bytes()) for rank in range(processes)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _address(worker: Callable[..., Any]) -> dict[str, Any]:
    """Where other processes find this function: its module's name and file, and its own name."""
    if not isinstance(worker, FunctionType) or "<" in worker.__qualname__:
        raise ValueError(f"{worker!r} cannot be found by other processes; give a function that stands in a module.")
    module = sys.modules.get(worker.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        raise ValueError(
            f"The function {worker.__qualname__} is defined in a notebook or at a prompt, where other processes cannot "
            "import it; put it into a file, such as workers.py, and import it from there."
        )
    return {"module": worker.__module__, "file": os.path.abspath(file), "name": worker.__qualname__}


def _pickled(arguments: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps(arguments)
    except Exception as error:
        raise ValueError(
            f"The worker's arguments cannot be sent to other processes ({error}); give numbers, text, tensors, "
            "or objects of classes that stand in a module."
        ) from error


class _Host:
    """The host process, from its start to its end, and what it tells: `rank status` for each worker that ended."""

    def __init__(self, folder: Path, processes: int, threads: int) -> None:
        self.folder, self.processes = folder, processes
        self.ended: dict[int, tuple[int, float]] = {}  # rank -> exit status (a signal is negative), and when
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", LOOPBACK),
        }
        with open(folder / "host.error", "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "llmlib.parallel.host", folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,  # an interrupt at the caller's terminal is the caller's to handle
            )

    def __enter__(self) -> _Host:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends whatever still runs: the host kills and reaps its workers when its pipe closes."""
        self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()

    def wait(self, deadline: float, follow: Callable[[str], object]) -> WorkerFailed | str | None:
        """None when all are done, the failure when one failed, "overdue" at the deadline."""
        begin, unread, pipe, failing = time.monotonic(), b"", self.process.stdout, False
        while True:
            done = sum(status == 0 for status, _ in self.ended.values())
            passed = time.monotonic() - begin
            if done == self.processes:
                follow(f"{done} of {self.processes} processes are done")
                return None
            follow(f"{done} of {self.processes} processes are done, {passed:.0f} s")
            if len(self.ended) == self.processes:
                return self._first_failure(begin)
            if not failing and any(status != 0 for status, _ in self.ended.values()):
                failing, deadline = True, time.monotonic() + GRACE_SECONDS
            left = deadline - time.monotonic()
            if left <= 0:
                return self._first_failure(begin) if failing else "overdue"
            if select.select([pipe], [], [], min(left, 1.0))[0]:
                chunk = os.read(pipe.fileno(), 4096)
                if not chunk:
                    return self._first_failure(begin)
                *lines, unread = (unread + chunk).split(b"\n")
                for line in map(json.loads, lines):
                    self.ended[line["rank"]] = (line["status"], line["at"])

    def _first_failure(self, begin: float) -> WorkerFailed:
        """Of all failures the one that happened first; a death is noticed a moment after it happened."""
        found: list[tuple[float, int, str]] = []
        for rank in range(self.processes):
            named = f"Process {rank} of {self.processes}"
            path = self.folder / f"{rank}.failed"
            status, at = self.ended.get(rank, (0, 0.0))
            if path.exists():
                failure = json.loads(path.read_text())
                found.append((failure["at"], rank, f"{named} failed: {failure['error']}\n\n{failure['traceback']}"))
            elif status:
                how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with exit code {status}"
                said = _tail(self.folder / f"{rank}.error")
                sentence = f"{named} {how} after {at - begin:.1f} s, before it returned anything; all were ended."
                found.append((at - GRACE_SECONDS / 2, rank, sentence + said))
        if not found:
            said = _tail(self.folder / "host.error")
            return WorkerFailed(f"The process that starts the {self.processes} workers ended early.{said}")
        _, rank, message = min(found)
        return WorkerFailed(message, rank)

    def overdue(self, seconds: float) -> WorkerFailed:
        """The failure that says who is not done after `seconds`, and at which line each of them is."""
        late = [rank for rank in range(self.processes) if not (self.folder / f"{rank}.result").exists()]
        self.process.stdin.write(b"stacks\n")
        self.process.stdin.flush()
        time.sleep(0.3)
        stacks = []
        for rank in late:
            lines = _read(self.folder / f"{rank}.stack").splitlines()
            own = [
                line for line in lines if line.startswith("  File") and not any(part in line for part in _NOT_ITS_OWN)
            ]
            stacks.append(f"Process {rank} is at (innermost first):\n" + "\n".join(own[:12] or ["  (it does not say)"]))
        who = ", ".join(map(str, late))
        return WorkerFailed(
            f"After {seconds:g} s, {len(late)} of {self.processes} processes were not done (rank {who}), and all were "
            "ended. If they wait for each other, one sends what none receives, or not all call the same collective; if "
            "the work takes longer, give more `seconds`.\n\n" + "\n".join(stacks)
        )


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _tail(path: Path, lines: int = 30) -> str:
    text = "\n".join(_read(path).splitlines()[-lines:])
    return f" It wrote:\n\n{text}" if text else ""


def _show_prints(folder: Path, processes: int) -> None:
    """Hands on what the workers printed, in order of rank."""
    for name, stream in (("output", sys.stdout), ("error", sys.stderr)):
        for rank in range(processes):
            if text := _read(folder / f"{rank}.{name}"):
                stream.write(text)


def load_worker(module: str, file: str, name: str) -> Callable[..., Any]:
    """The function of that name; a module that is not on the path is loaded from its file."""
    loaded = None
    if module != "__main__":
        with contextlib.suppress(ImportError):
            loaded = importlib.import_module(module)
    if loaded is None or os.path.abspath(getattr(loaded, "__file__", None) or "") != file:
        alias = "__worker__" if module == "__main__" else module
        specification = importlib.util.spec_from_file_location(alias, file)
        loaded = sys.modules[module] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(loaded)
    return getattr(loaded, name)


def process_device():
    """The device of this process: the GPU of its place on the machine if there are enough, else the processor."""
    import torch

    here, local = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= local
    return torch.device("cuda", here) if enough else torch.device("cpu")


def group_backend(device) -> str:
    """What carries tensors between processes: gloo those on processors, nccl those on GPUs where each process has one.

    nccl was not run: the book is made and tested on machines without GPUs.

    >>> import torch
    >>> group_backend(torch.device("cpu")), group_backend(torch.device("cuda", 1))
    ('gloo', 'cpu:gloo,cuda:nccl')
    """
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


@contextlib.contextmanager
def joined(backend: str | None = None) -> Iterator[Any]:
    """Joins the processes that `torchrun` started, for the length of a `with`; gives this process' device."""
    import torch
    import torch.distributed as dist

    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise RuntimeError(
            f"{' and '.join(missing)} are not set, so this is none of several processes: start it with "
            "`torchrun --standalone --nproc-per-node 2 -m MODULE`, or from Python with `run_workers`."
        )
    device = process_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend or group_backend(device))
    try:
        yield device
    finally:
        dist.destroy_process_group()
