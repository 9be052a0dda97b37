"""Build the site with Jupyter Book; a warning is an error."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(source: Path = ROOT) -> Path:
    """Build the book in `source`, and give the folder of its pages; a warning ends the program with what was said."""
    jupyter_book = Path(sys.executable).parent / "jupyter-book"
    # --all: a page that is not read again would not repeat its warnings.
    command = [jupyter_book, "build", source, "--all", "-W", "-n", "--keep-going"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nStopped: the book does not build; its warnings, above, count as errors.")
    return source / "_build" / "html"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    print("-- Building the book", flush=True)
    start = time.perf_counter()
    pages = build()
    print(f"-- Built in {time.perf_counter() - start:.0f} s. Open {(pages / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
