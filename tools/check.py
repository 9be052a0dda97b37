"""Run every check, or with --chapter those that concern one chapter. What CI runs, and nothing else."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from notebooks import ROOT, chapter_paths

PYTEST = [sys.executable, "-m", "pytest", "-q"]
TWO_WORKERS = ["-n", "2", "--dist"]  # by file, so that a session's fixtures are made once; by test where few are left
NOTHING_SELECTED = 5  # pytest's exit code
NBVAL = ["--nbval", "--nbval-sanitize-with", "tests/notebooks/sanitize.cfg", "-p", "time_limit"]


def steps(chapter: str | None) -> dict[str, list[str]]:
    """What is run, in order: a name, and a command line."""
    notebooks = [str(path) for path in chapter_paths([chapter] if chapter else [])]
    only = ["--chapter", chapter] if chapter else []
    tests = ["tests"] if chapter else ["llmlib", "tests"]
    lint = {
        "lint": ["ruff", "check", "."],
        "format": ["ruff", "format", "--check", "."],
        "floors of llmlib": ["lint-imports"],
    }
    return ({} if chapter else lint) | {
        "the site builds without a warning": [sys.executable, "tools/build.py"],
        "chapters give their stored outputs": [*PYTEST, "-o", "addopts=", *NBVAL, *notebooks],
        "tests": [*PYTEST, *TWO_WORKERS, "worksteal" if chapter else "loadfile", "-m", "not alone", *only, *tests],
        "tests that measure time": [*PYTEST, "-m", "alone", *only, *tests],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chapter", help="the name of one chapter, such as tokenization")
    chapter = parser.parse_args().chapter
    os.chdir(ROOT)
    os.environ["BOOK_SITE"] = str(ROOT / "_build" / "html")  # the tests of the pages read what was built just before
    results = {}
    for name, command in steps(chapter).items():
        print(f"\n== {name}", flush=True)
        start = time.perf_counter()
        tool = shutil.which(command[0], path=Path(sys.executable).parent) or command[0]
        code = subprocess.call([tool, *command[1:]])
        if code == NOTHING_SELECTED and chapter:
            code = 0  # not every chapter has a test of each kind
        results[name] = (code, time.perf_counter() - start)
    print(f"\n{'seconds':>8}  check")
    for name, (code, seconds) in results.items():
        print(f"{seconds:8.0f}  {name}{'' if code == 0 else '   FAILED'}")
    failed = sum(code != 0 for code, _ in results.values())
    print(f"\n{len(results) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
