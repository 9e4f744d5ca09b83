"""A server process and the clients that ask it: in a closed loop, or on a clock. Knows HTTP/1.1 as far as it must."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

READY_WITHIN_S = 60


@dataclass
class Answers:
    """What came back: seconds of the served, and how many of each status (0: no answer)."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    took_s: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(seconds)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.took_s


@dataclass(frozen=True)
class Running:
    """A server process."""

    port: int
    pid: int
    seconds_to_ready: float
    said: Path = Path()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rss_mb(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the server is gone")

    def log(self) -> str:
        """What it has said so far."""
        return self.said.read_text(errors="replace")

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextlib.contextmanager
def serving(url: str, *flags: str) -> Iterator[Running]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tandem", "serve", url, "--port", str(port), *flags]
    began = time.perf_counter()
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            waiting = Running(port, process.pid, 0)
            while not waiting.ready():
                if process.poll() is not None or time.perf_counter() - began > READY_WITHIN_S:
                    log.seek(0)
                    raise SystemExit(f"no server: {log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.01)
            yield Running(port, process.pid, time.perf_counter() - began, Path(log.name))
        finally:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def request(path: str, document: object) -> bytes:
    body = json.dumps(document).encode()
    headers = f"host: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    head = f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A kept connection that sends ready bytes and looks at no more of the answer than it must."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, content: bytes) -> int:
        """The status; 0 where there was none. A kept connection that was closed meanwhile is opened anew, once."""
        kept = self._streams is not None
        status = await self._ask(content)
        return await self._ask(content) if kept and not status else status

    async def _ask(self, content: bytes) -> int:
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(content)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            if b"connection: close" in head:
                self.close()
            return int(head.split(b" ", 2)[1])
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return 0

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def closed_loop(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Answers:
    """So many clients, each asking again as soon as it is answered."""
    answers = Answers()
    began = time.perf_counter()

    async def one(number: int) -> None:
        there = Connection(port)
        turn = number
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            status = await there.ask(requests[turn % len(requests)])
            answers.add(status, time.perf_counter() - asked)
            turn += clients
        there.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    answers.took_s = time.perf_counter() - began
    return answers


async def open_loop(
    running: Running, requests: Sequence[bytes], per_second: float, seconds: float
) -> tuple[Answers, list[tuple[float, float]]]:
    """So many requests a second, answered or not; and (second, resident megabytes) of the server."""
    answers, memory = Answers(), list[tuple[float, float]]()
    idle: list[Connection] = []
    tasks: set[asyncio.Task[None]] = set()
    began = time.perf_counter()

    async def one(content: bytes) -> None:
        there = idle.pop() if idle else Connection(running.port)
        asked = time.perf_counter()
        answers.add(await there.ask(content), time.perf_counter() - asked)
        idle.append(there)

    sent, sampled = 0, 0.0
    while (now := time.perf_counter() - began) < seconds:
        while sent < now * per_second:
            task = asyncio.create_task(one(requests[sent % len(requests)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        if now >= sampled:
            memory.append((now, running.rss_mb()))
            sampled += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    answers.took_s = time.perf_counter() - began
    for there in idle:
        there.close()
    return answers, memory
