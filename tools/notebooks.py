"""Execute the chapters and store their outputs in one canonical form: a second run changes nothing.

python tools/notebooks.py [CHAPTER ...]
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "book"
KEPT_METADATA = ("tags", "jupyter")  # jupyter: a solution is folded in JupyterLab, too


def chapter_paths(names: list[str]) -> list[Path]:
    """The notebooks of the chapters named, or of all; an unknown name ends the program with those that exist."""
    known = {path.stem: path for path in sorted(CHAPTERS.glob("*.ipynb"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"Stopped: there is no chapter {unknown[0]!r}; the chapters are {', '.join(known)}.")
    return [known[name] for name in names] or list(known.values())


def execute(notebook: nbformat.NotebookNode, progress=None) -> None:
    """Run every cell in order, in a fresh kernel. Raises nbclient's CellControlSignal at the first cell that fails."""
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", store_widget_state=False, record_timing=False,
        resources={"metadata": {"path": str(CHAPTERS)}},
        on_cell_executed=lambda **_: progress and progress.update(),
    )  # fmt: skip
    client.execute()


def join_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What a cell printed piece by piece, as one output: where it was cut depends on the run."""
    joined = []
    for output in outputs:
        previous = joined[-1] if joined else {}
        if output.output_type == "stream" and previous.get("name") == output.name:
            previous["text"] += output.text
        else:
            joined.append(output)
    return joined


def canonical(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with nothing in it that depends on the run: no widget state, no timing, counts 1, 2, 3 ..."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    count = 0
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number}"
        cell.metadata = {key: cell.metadata[key] for key in KEPT_METADATA if cell.metadata.get(key)}
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            output.pop("transient", None)
            if output.output_type == "execute_result":
                output.execution_count = count
            # Its model is gone with the kernel; without it, a viewer shows the figure's words and table instead.
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        cell.outputs = join_streams(cell.outputs)
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="*")
    for path in chapter_paths(parser.parse_args().chapters):
        notebook = nbformat.read(path, as_version=4)
        start = time.perf_counter()
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        with tqdm(total=cells, desc=path.stem, unit="cell") as progress:
            try:
                execute(notebook, progress)
            except (CellControlSignal, DeadKernelError) as error:  # a cell failed, took too long, or ended the kernel
                sys.exit(f"{error}\nStopped: {path.name} was not stored, since not all of its cells ran; why is above.")
        nbformat.write(canonical(notebook), path)
        print(f"-- Stored {path.relative_to(ROOT)} ({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
