"""The Binder set-up: what repo2docker reads is there, runs, and installs what the README's commands install."""

import json
import os
import subprocess
from pathlib import Path

import setup

ROOT = Path(__file__).resolve().parent.parent
BINDER = ROOT / "binder"


def test_its_python_is_one_that_the_book_supports():
    name, version = (BINDER / "runtime.txt").read_text().strip().split("-")
    assert name == "python"
    assert setup.OLDEST <= tuple(map(int, version.split("."))) <= setup.NEWEST


def test_it_installs_the_packages_that_are_pinned_for_all():
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert [line.split()[0] for line in wanted] == ["-r"]
    assert (BINDER / wanted[0].split()[1]).resolve() == ROOT / "requirements.txt"
    assert "pip install -r requirements.txt" in (ROOT / "README.md").read_text("utf-8")


def test_post_build_installs_llmlib_and_asks_for_no_news(tmp_path, monkeypatch):
    """The real script, with a python that only notes what it is asked."""
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$PWD" "$@" >> {tmp_path}/asked\n')
    python.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NB_PYTHON_PREFIX": str(tmp_path / "prefix")}
    subprocess.run([script], cwd=ROOT, env=environment, check=True)
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:4] == [str(ROOT), "-m", "pip", "install"]
    assert "--no-deps" in asked
    assert asked[-1] == "."

    monkeypatch.setattr(setup, "VENV", str(tmp_path / "venv"))
    setup.turn_off_the_news()
    settings = "share/jupyter/lab/settings/overrides.json"
    ours, theirs = (json.loads((tmp_path / at / settings).read_text()) for at in ("venv", "prefix"))
    assert ours == theirs
