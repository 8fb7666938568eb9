"""Generates stubs from proto/ and starts real servers: what the tests need before they can talk to one.

POINTSMAN_BIN names the binary; without it the release build is taken, else the debug build.
"""

import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import grpc
import grpc_tools
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
# Generous, for a busy machine: these bounds end a hang, they judge no speed.
START_S = 60
CALL_S = 60
STOP_S = 30
# Servers of this machine are not behind a proxy that it may have.
_direct = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1", "localhost"]
os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, _direct))
ROUTER = "pointsman.v1.RouterService"

_stubs = tempfile.TemporaryDirectory(prefix="pointsman-stubs-")


def generate_stubs() -> None:
    """Compiles every proto into a temporary folder and puts it on the import path."""
    protos = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    into = [f"--python_out={_stubs.name}", f"--grpc_python_out={_stubs.name}"]
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", *into, *protos])
    assert code == 0, f"protoc ended with {code}"
    sys.path.insert(0, _stubs.name)


# At import, not in a fixture: test_client.py imports the stubs at its top.
generate_stubs()


def binary() -> Path:
    """Returns the binary to test."""
    if named := os.environ.get("POINTSMAN_BIN"):
        return Path(named).resolve()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = [path for profile in ("release", "debug") if (path := target / profile / "pointsman").is_file()]
    assert found, f"no pointsman in {target}: build it, or name it in POINTSMAN_BIN"
    return found[0]


class Server:
    """A running `pointsman serve` on free ports; a context manager that ends it in any case."""

    def __init__(self, folder: Path, config: str = "", more: tuple[str, ...] = ()):
        file = folder / "pointsman.toml"
        file.write_text(config)
        listeners = [f"--{name}-listen=127.0.0.1:0" for name in ("grpc", "http", "admin")]
        arguments = ["--config", file, "serve", *listeners, *more]
        environment = {
            name: value for name, value in os.environ.items() if name not in ("POINTSMAN_CONFIG", "RUST_LOG")
        }
        environment["XDG_STATE_HOME"] = str(folder / "state")
        self._log = folder / "stderr.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary(), *arguments], stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder
            )
        try:
            self.grpc, self.http, self.admin = self._addresses()
        except BaseException:
            self.process.kill()
            raise

    def _addresses(self) -> tuple[str, str, str]:
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            for line in self.process.stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        found = {}
        while found.keys() != {"gRPC", "HTTP", "admin"}:
            line = lines.get(timeout=START_S)
            assert line, f"the server ended before it named its addresses:\n{self.log()}"
            if match := re.fullmatch(r"(gRPC|HTTP|admin)\s+(127\.0\.0\.1:\d+)\n", line):
                found[match[1]] = match[2]
        return found["gRPC"], found["HTTP"], found["admin"]

    def channel(self) -> grpc.Channel:
        """Returns a connection of its own, not shared with other channels of this process."""
        return grpc.insecure_channel(self.grpc, options=[("grpc.use_local_subchannel_pool", 1)])

    def wait_until_serving(self) -> None:
        with self.channel() as channel:
            for service in ("", ROUTER):
                request = health_pb2.HealthCheckRequest(service=service)
                watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=START_S, wait_for_ready=True)
                for response in watch:
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        break
                watch.cancel()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> "Server":
        try:
            self.wait_until_serving()
        except BaseException:
            print(self.log(), file=sys.stderr)
            self.process.kill()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The built-in configuration, but that a busy machine may take its time to score."""
    with Server(tmp_path_factory.mktemp("server"), "[classifier]\nwait_ms_max = 60_000\n") as running:
        yield running
        assert running.process.poll() is None, f"the server ended during the tests:\n{running.log()}"
        assert "panicked" not in running.log()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Completions by the built-in script."""
    with Server(tmp_path_factory.mktemp("demo"), more=("--demo",)) as running:
        yield running
        assert running.process.poll() is None, f"the server ended during the tests:\n{running.log()}"
        assert "panicked" not in running.log()


@pytest.fixture(scope="session")
def uncached(tmp_path_factory):
    """Every request reaches the model, in one of two sessions, and waits for it as long as it takes."""
    config = "[classifier]\ncache_entries = 0\nworkers = 2\nwait_ms_max = 60_000\n"
    with Server(tmp_path_factory.mktemp("uncached"), config) as running:
        yield running
