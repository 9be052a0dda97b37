"""Set up what a command needs, once: `python3 tools/setup.py site` or `python3 tools/setup.py tests`.

Makes `.venv` with the pinned packages, `node_modules` with KaTeX and axe, and, for the tests, a browser.
What is already there and up to date is left alone. Runs on the bare interpreter, so it uses only the
standard library, and syntax that an older Python 3 can still read: it is this file that says "too old".
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python.exe" if os.name == "nt" else "python")
OLDEST, NEWEST = (3, 11), (3, 14)  # every package of requirements.txt comes ready to install for these
FREE_BYTES_NEEDED = 4 * 2**30  # the packages take 2.1 GiB with torch for the CPU, and pip needs room to unpack
BROWSERS = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    os.path.expandvars(r"%ProgramFiles%\Google\Chrome\Application\chrome.exe"),
]


def say(message):
    print("-- " + message)
    sys.stdout.flush()


def stop(message):
    sys.stderr.write("\nStopped: " + message + "\n")
    sys.exit(1)


def suitable_interpreter():
    """This interpreter, or another one on the PATH whose version the book supports."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other and runs([other, "-c", ""]):
            return other
    given = ".".join(map(str, sys.version_info[:2]))
    return stop(
        f"the book needs Python 3.{OLDEST[1]} to 3.{NEWEST[1]}, and {sys.executable} is Python {given}; "
        "install one of these and run the command again."
    )


def runs(command):
    """Whether a program starts and ends well; some names on a PATH only stand for what is not installed."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def fingerprint(*names):
    """A hash of what an installation depends on: these files, and where the checkout stands."""
    digest = hashlib.sha256(ROOT.encode())
    for name in names:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_done(stamp, wanted):
    try:
        with open(stamp) as file:
            return file.read() == wanted
    except OSError:
        return False


def mark_done(stamp, wanted):
    with open(stamp, "w") as file:
        file.write(wanted)


def need_room():
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES_NEEDED:
        stop(
            f"the set-up needs {FREE_BYTES_NEEDED / 2**30:.0f} GiB of free disk, and {ROOT} has {free / 2**30:.1f}; "
            "make room and run the command again."
        )


def run(command, failure):
    """Run `command`, its progress in view; on failure stop with the sentence `failure`."""
    try:
        code = subprocess.call(command, cwd=ROOT)
    except OSError as error:
        stop(f"{failure} ({error})")
    if code:
        if shutil.disk_usage(ROOT).free < 2**28:
            failure = "the disk is full; make room and run the command again."
        stop(failure)


def set_up_packages():
    stamp = os.path.join(VENV, ".packages-installed")
    wanted = fingerprint("requirements.txt", "pyproject.toml")
    if is_done(stamp, wanted) and os.path.exists(PYTHON):
        return
    interpreter = suitable_interpreter()
    need_room()
    say("Making the virtual environment .venv (once; a few minutes, and 2 GB of disk)")
    run(
        [interpreter, "-m", "venv", "--clear", VENV],
        f"{interpreter} could not make a virtual environment; on Debian and Ubuntu, `apt install python3-venv` helps.",
    )
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    say("Installing the pinned packages of requirements.txt")
    run(
        [*pip, "--progress-bar", "on", "-r", "requirements.txt"],
        "pip could not install the packages (its reason is above); check the network and the free disk, "
        "then run the command again.",
    )
    say("Installing llmlib, so that changes to it take effect at once")
    run(
        [*pip, "--quiet", "--no-deps", "--no-build-isolation", "-e", "."],
        "pip could not install llmlib from this folder (its reason is above).",
    )
    turn_off_the_news()
    mark_done(stamp, wanted)


def turn_off_the_news():
    """JupyterLab asks at its first start whether it may fetch news; the book asks nobody for anything."""
    settings = os.path.join(VENV, "share", "jupyter", "lab", "settings")
    if not os.path.isdir(settings):
        os.makedirs(settings)
    with open(os.path.join(settings, "overrides.json"), "w") as file:
        file.write('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}\n')


def set_up_node_packages():
    modules = os.path.join(ROOT, "node_modules")
    stamp = os.path.join(modules, ".installed")
    wanted = fingerprint("package.json", "package-lock.json")
    if is_done(stamp, wanted):
        return
    say("Installing KaTeX (equations) and axe (accessibility tests)")
    npm = os.path.join(BIN, "npm.cmd" if os.name == "nt" else "npm")
    os.environ["PATH"] = BIN + os.pathsep + os.environ["PATH"]
    run(
        [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"],
        "npm could not install the packages of package-lock.json (its reason is above); "
        "check the network, then run the command again.",
    )
    mark_done(stamp, wanted)


def find_browser():
    """The path of a Chromium or Chrome, or None. The tests use the same function."""
    chosen = os.environ.get("BOOK_BROWSER")
    if chosen:
        if not (shutil.which(chosen) and runs([chosen, "--version"])):
            stop(f"BOOK_BROWSER is {chosen}, which does not start; give the path of Chromium or Chrome, or unset it.")
        return shutil.which(chosen)
    for name in BROWSERS:
        path = shutil.which(name)
        if path and (os.name == "nt" or runs([path, "--version"])):  # on Windows, --version would open a window
            return path
    return playwrights_own_browser()


def playwrights_own_browser():
    ask = "from playwright.sync_api import sync_playwright as p\nwith p() as run: print(run.chromium.executable_path)"
    answer = subprocess.run([PYTHON, "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    path = answer.stdout.decode().strip()
    return path if path and os.path.exists(path) else None


def set_up_browser():
    if find_browser():
        return
    attempts = [[PYTHON, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        attempts.insert(0, ["sh", "-c", "apt-get update -qq && apt-get install -y -qq chromium"])
    for attempt in attempts:
        say("Installing a browser for the tests: " + " ".join(attempt[-1:] if attempt[0] == "sh" else attempt[1:]))
        if subprocess.call(attempt, cwd=ROOT) == 0 and find_browser():
            return
    stop(
        "the tests need Chromium or Chrome and none could be installed; install one, "
        "or set BOOK_BROWSER to the path of one, and run the command again."
    )


def main():
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in ("site", "tests"):
        stop("say what to set up: `python3 tools/setup.py site` or `python3 tools/setup.py tests`.")
    set_up_packages()
    set_up_node_packages()
    if kind == "tests":
        set_up_browser()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on from here.")
