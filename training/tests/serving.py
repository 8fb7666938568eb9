"""A real `pointsman serve` for tests: started on free ports, asked over HTTP, ended by a signal."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START_S = 120
ANSWER_S = 60


@contextlib.contextmanager
def server(binary: Path, config: Path, folder: Path):
    """Yields the addresses of a server that is ready, "http" and "admin"; ends it with a signal, so that its log is
    written."""
    listeners = [f"--{name}-listen=127.0.0.1:0" for name in ("grpc", "http", "admin")]
    with (folder / "stderr.txt").open("wb") as log:
        process = subprocess.Popen(
            [binary.resolve(), "serve", "--config", config, *listeners],
            stdout=subprocess.PIPE, stderr=log, text=True, env=environment(folder), cwd=folder,
        )  # fmt: skip
    try:
        addresses = {}
        while "admin" not in addresses:
            name, _, address = process.stdout.readline().partition(" ")
            if not name:
                log = (folder / "stderr.txt").read_text()[-2000:]
                sys.exit(f"the server ended before it named its addresses: {log}")
            addresses[name.lower()] = address.strip()
        wait_until_ready(addresses["http"])
        yield addresses
    finally:
        process.terminate()
        process.wait(ANSWER_S)


def environment(folder: Path) -> dict:
    kept = {name: value for name, value in os.environ.items() if name not in ("POINTSMAN_CONFIG", "RUST_LOG")}
    return kept | {"XDG_STATE_HOME": str((folder / "state").resolve())}


def wait_until_ready(address: str) -> None:
    until = time.time() + START_S
    while True:
        with contextlib.suppress(OSError), get(address, "/readyz"):
            return
        if time.time() > until:
            sys.exit(f"the server was not ready after {START_S} s")
        time.sleep(0.1)


def get(address: str, path: str):
    return urllib.request.urlopen(f"http://{address}{path}", timeout=ANSWER_S)


def post(address: str, path: str, body: dict):
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=ANSWER_S)
