"""Records of measurements: bench/results/NAME.json, each with the day, the machine and the Python that made it."""

import datetime
import json
import os
import platform
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "bench" / "results"


def processor() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(name: str, measured: dict) -> None:
    """Keep what was measured just now, on this machine."""
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "command": f"python bench/{name}.py --write",
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(record | measured, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read(name: str) -> dict | None:
    """The record of that name, or None if nothing was kept."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
