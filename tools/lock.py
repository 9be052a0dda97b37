"""Compile requirements.in into requirements.txt: every package pinned, for all supported Pythons and systems.

torch's own accelerator packages differ between systems and are left to pip. Needs the `uv` program.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_TO_PIP = ("cuda-", "nvidia-", "triton")
OLDEST_PYTHON = "3.11"


def main() -> None:
    uv = shutil.which("uv")
    if not uv:
        sys.exit("Stopped: `make lock` needs the program uv; install it, for example with `pipx install uv`.")
    command = [uv, "pip", "compile", "--universal", "--python-version", OLDEST_PYTHON, "--upgrade"]
    command += ["--quiet", "--no-header", "--no-annotate", "--no-emit-package", "torch", "requirements.in"]
    compiled = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    torch = [line.split("#")[0].strip() for line in (ROOT / "requirements.in").read_text().splitlines()]
    lines = [line for line in compiled if not line.startswith(LEFT_TO_PIP)]
    lines += [line for line in torch if line.startswith("torch==")]
    (ROOT / "requirements.txt").write_text("\n".join(sorted(lines)) + "\n")
    print(f"-- Pinned {len(lines)} packages in requirements.txt")


if __name__ == "__main__":
    main()
