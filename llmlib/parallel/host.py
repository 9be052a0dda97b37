"""The process between a caller and its workers: python -m llmlib.parallel.host FOLDER, started by `launch` alone.

It forks the workers from itself once torch and their module are loaded (or, where forking is unsafe, starts each
anew), and writes a line `{"rank": ..., "status": ..., "at": ...}` when one ends. When its standard input closes, the
caller is done or gone: it kills the workers, collects them, and ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

from llmlib.parallel.launch import group_backend, load_worker, process_device


def main() -> None:
    folder = Path(sys.argv[1])
    job = pickle.loads((folder / "job").read_bytes())
    if len(sys.argv) > 2:  # a worker that was started anew
        work(job, folder, int(sys.argv[2]), *_loaded(job))
    else:
        _watch(_start(job, folder))
        _end(0)  # at once: nothing of the loaded packages has to be tidied up


def _loaded(job: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """The worker's function and its arguments; torch is loaded on the way."""
    import torch.distributed  # noqa: F401 (before the fork, so that it is loaded once)

    function = load_worker(job["module"], job["file"], job["name"])
    return function, pickle.loads(job["arguments"])


def _start(job: dict[str, Any], folder: Path) -> dict[int, int]:
    """The workers' process ids, each with its rank."""
    ranks: dict[int, int] = {}
    if not job["fork"]:
        for rank in range(job["processes"]):
            command = [sys.executable, "-m", "llmlib.parallel.host", folder, str(rank)]
            ranks[subprocess.Popen(command, stdin=subprocess.DEVNULL).pid] = rank
        return ranks
    loaded = _loaded(job)
    for rank in range(job["processes"]):
        pid = os.fork()
        if pid == 0:
            os.close(0)  # the caller's pipe is the host's alone
            work(job, folder, rank, *loaded)
        ranks[pid] = rank
    return ranks


def _watch(ranks: dict[int, int]) -> None:
    """Tells of each worker's end, until all have ended; kills them when the caller is gone."""
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    killed = False
    while ranks:
        for pid in list(ranks):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                line = {"rank": ranks.pop(pid), "status": os.waitstatus_to_exitcode(status), "at": time.monotonic()}
                if not killed:
                    os.write(1, (json.dumps(line) + "\n").encode())
        if not ranks:
            return
        ready, _, _ = select.select([wake] if killed else [wake, 0], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready:
            asked = os.read(0, 4096)
            for pid in ranks:
                os.kill(pid, signal.SIGUSR1 if asked else signal.SIGKILL)
            killed = not asked


def work(job: dict[str, Any], folder: Path, rank: int, function: Any, arguments: tuple[Any, ...]) -> None:
    """One worker, from meeting the others to its result in a file; never returns."""
    for name, descriptor in (("output", 1), ("error", 2)):
        file = os.open(folder / f"{rank}.{name}", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
    stack = open(folder / f"{rank}.stack", "w")  # noqa: SIM115 (open until the process ends)
    faulthandler.register(signal.SIGUSR1, file=stack)
    processes, result = job["processes"], folder / f"{rank}.result"
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in places.items()})
    try:
        import torch
        import torch.distributed as dist

        torch.set_num_threads(job["threads"])
        device = process_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        store = dist.FileStore(str(folder / "meeting"), processes)
        backend, patience = job["backend"] or group_backend(device), timedelta(hours=1)  # the caller says how long
        dist.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=patience)
        answer = pickle.dumps(function(*arguments))
        (folder / f"{rank}.part").write_bytes(answer)
        os.rename(folder / f"{rank}.part", result)
    except BaseException as error:
        told = {
            "at": time.monotonic(),
            "error": "".join(traceback.format_exception_only(error)).strip(),
            "traceback": "".join(traceback.format_exception(error)),
        }
        (folder / f"{rank}.part").write_text(json.dumps(told))
        os.rename(folder / f"{rank}.part", folder / f"{rank}.failed")
        _end(1)
    try:
        dist.barrier()  # nobody closes a connection that another still needs
        dist.destroy_process_group()
    except RuntimeError:  # another process failed, and says so itself
        pass
    _end(0)


def _end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
