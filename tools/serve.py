"""Build the site and serve it, or open the chapters in JupyterLab, on 127.0.0.1."""

import argparse
import os
import socket
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from build import ROOT, build


class Server(ThreadingHTTPServer):
    allow_reuse_address = os.name != "nt"  # on Windows the option would share a port that is in use


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["site", "lab"])
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    if not 1 <= given.port <= 65535:
        sys.exit(f"Stopped: a port is a number from 1 to 65535, not {given.port}.")
    if not port_is_free(given.port):
        command = "serve" if given.what == "site" else "lab"
        sys.exit(f"Stopped: port {given.port} is taken; choose another, as in `make {command} PORT={given.port + 1}`.")
    if given.what == "lab":
        arguments = ["-m", "jupyterlab", "book", "--ip=127.0.0.1", f"--port={given.port}", "--ServerApp.port_retries=0"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--allow-root")  # in a container there is often nobody else
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, *arguments])
    print("-- Building the book", flush=True)
    with Server(("127.0.0.1", given.port), partial(QuietHandler, directory=build())) as server:
        print(f"The book is at http://127.0.0.1:{given.port}/  (Ctrl+C stops the server)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
