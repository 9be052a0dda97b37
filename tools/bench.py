"""Run the benchmarks of bench/, or those named. Each prints its table, with ratios to a reference in the same run.

python tools/bench.py [NAME ...] [--write]     (--write stores the tables that the book shows, in bench/results)
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    known = sorted(path.stem for path in (ROOT / "bench").glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in known]
    if unknown:
        sys.exit(f"Stopped: there is no benchmark {unknown[0]!r}; there are {', '.join(known)}.")
    for name in given.names or known:
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, f"bench/{name}.py", *["--write"] * given.write], cwd=ROOT, check=True)
    if given.write:
        subprocess.run([sys.executable, "tools/benchmarks.py"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
