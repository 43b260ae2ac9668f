"""Does harm to a real `neort serve`: kills it, fills its disk, breaks connections at every byte, moves its clock.

    python tests/faults/serving_faults.py [kill disk streams bodies noise idle clock] [--count 10000]
        [--faketime libfaketimeMT.so.1]

After each kind the server must give the texts that the model gives in this process, run nothing, and hold as many open
files as before. Prints a line for each; the exit status tells whether all of it held. Linux; `disk` needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

import neort  # noqa: E402
from noisy_requests import noisy, request  # noqa: E402
from served import Served, serving  # noqa: E402

PROMPT = "It was a dark night and"
BODY = {"prompt": PROMPT, "max_tokens": 3, "temperature": 0, "stream": True}
SETTLING = 60.0
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: a connection that is closed is reset


class BrokenError(AssertionError):
    """Something that must hold does not."""


def check(holds: bool, told: object) -> None:
    if not holds:
        raise BrokenError(told)


def files(server: Served) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def check_sound(server: Served, before: int) -> None:
    """Raise BrokenError unless the server answers rightly, runs nothing, and holds ``before`` open files."""
    check(server.texts(PROMPT, max_tokens=12, temperature=0) == [expected()], "another text than the model's")
    until = time.monotonic() + SETTLING
    while True:
        held = [server.metric(f"neort:num_requests_{kind}") for kind in ("running", "waiting")]
        if held == [0, 0] and files(server) <= before:
            return
        check(time.monotonic() < until, f"running, waiting: {held}; files: {files(server)} instead of {before}")
        time.sleep(0.2)


def expected() -> str:
    if not _TEXT:
        _TEXT.append(neort.load(num_threads=2).generate(PROMPT, max_new_tokens=12).text)
    return _TEXT[0]


_TEXT: list[str] = []


def connect(server: Served) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=SETTLING)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def read_answer(connection: socket.socket) -> bytes:
    """One answer, or all that comes before the connection ends."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            answer += part
            head, end, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            if end and (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")):
                break
    return answer


def status(answer: bytes) -> int | None:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def streams(server: Served, count: int) -> str:
    """Close the connection after each number of bytes of a stream, by turns in order and by a reset."""
    with connect(server) as connection:
        connection.sendall(request(json.dumps(BODY).encode()))
        whole = len(read_all(connection))
    for kept in range(whole):
        with connect(server) as connection:
            connection.sendall(request(json.dumps(BODY).encode()))
            taken = 0
            while taken < kept and (part := connection.recv(kept - taken)):
                taken += len(part)
            if kept % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    return f"{whole} streams, closed after 0 to {whole - 1} bytes"


def bodies(server: Served, count: int) -> str:
    """Send each beginning of a request: as a whole body, and as one that stops before its end."""
    body = json.dumps(BODY).encode()
    for kept in range(len(body)):
        with connect(server) as connection:
            connection.sendall(request(body[:kept]))
            found = status(read_all(connection))
            check(found == 400, f"a body cut after {kept} bytes got {found}")
    whole = request(body)
    for kept in range(len(whole)):
        with connect(server) as connection:
            connection.sendall(whole[:kept])
            if kept % 2:
                connection.shutdown(socket.SHUT_WR)
                found = status(read_all(connection))
                check(found in (None, 400, 408), f"a request cut after {kept} bytes got {found}")
    return f"{len(body)} bodies and {len(whole)} requests, cut at every length"


def noise(server: Served, count: int) -> str:
    """Send random requests, many at once. Of those that are cut most clients go away, some wait for what is said."""
    found: Counter[str] = Counter()

    def send(seed: int) -> None:
        source = random.Random(seed)
        sent, is_cut = noisy(source)
        with connect(server) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            if is_cut and source.random() < 0.95:
                found["left"] += 1
                return
            answer = read_answer(connection)
        got = status(answer)
        found[str(got)] += 1
        check(got is None or got < 500 or got in (501, 503), f"request {seed}, {sent!r}, got {answer[:300]!r}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(count)))
    return f"{count} random requests: {dict(sorted(found.items()))}"


def idle(server: Served, count: int) -> str:
    """Hold 2,000 connections that ask nothing, and ask by another one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(connect(server))
        found = server.texts(PROMPT, max_tokens=12, temperature=0)
        check(found == [expected()], f"{found} beside idle connections")
        held = files(server)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return f"2,000 idle connections, of which the server held {held} files open"


TRIALS: dict[str, Callable[[Served, int], str]] = {
    "streams": streams, "bodies": bodies, "noise": noise, "idle": idle,
}  # fmt: skip


def kill(folder: Path) -> str:
    """End the server by SIGKILL while it streams and saves prefixes; start it again on the same folder."""
    broken = 0
    with serving(folder) as server:
        connections = [connect(server) for _ in range(16)]
        for connection in connections:
            connection.sendall(request(json.dumps(BODY | {"max_tokens": 400, "ignore_eos": True}).encode()))
            connection.recv(64)
        saving = threading.Thread(target=_save_until_it_ends, args=(server,))
        saving.start()
        while not list(server.prefixes.iterdir()):
            time.sleep(0.01)
        server.process.send_signal(signal.SIGKILL)
        for connection in connections:
            broken += not read_all(connection).endswith(b"0\r\n\r\n")
            connection.close()
        saving.join(SETTLING)
        check(not saving.is_alive(), "a client waits for a server that is gone")
    with serving(folder) as server:
        names = [file.name for file in server.prefixes.iterdir() if not file.name.startswith(".")]
        for name in names:
            server.post("/v1/prefixes", action="load", filename=name)
        check_sound(server, files(server) + 1)
    left = sorted(file.name for file in server.prefixes.iterdir() if file.name not in names)
    return f"killed with 16 streams, of which {broken} broke off; {len(names)} prefixes, all whole; left over: {left}"


def _save_until_it_ends(server: Served) -> None:
    with contextlib.suppress(OSError, ValueError):
        for i in range(10_000):
            server.post("/v1/prefixes", action="save", prompt=f"{i} " + PROMPT * 40, filename=f"p{i % 4}")


def disk(folder: Path) -> str:
    """Fill the disk that the access log and prefixes are written to."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)
    try:
        with serving(folder) as server:
            before = files(server)
            server.post("/v1/prefixes", action="save", prompt=PROMPT, filename="small")
            with contextlib.suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
                while file.write(b"0" * 512):
                    pass
            code, error = server.refusal("/v1/prefixes", action="save", prompt=PROMPT * 40, filename="large")
            check(code == 507, f"a prefix without room got {code}: {error}")
            names = sorted(file.name for file in server.prefixes.iterdir())
            check(names == ["small"], f"there are {names}")
            for _ in range(200):
                server.get("/health")  # the log has no room for them
            check_sound(server, before)
            (folder / "full").unlink()
            server.post("/v1/prefixes", action="save", prompt=PROMPT * 40, filename="large")
            server.process.terminate()
            check(server.process.wait(SETTLING) == 0, "it did not end by itself")
        return f"a full disk: {code}, {error['message']}; requests were answered; with room again it saves"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def clock(folder: Path, library: Path) -> str:
    """Move the system's clock by a day and back while streams run."""
    moment = folder / "moment"
    moment.write_text("+0\n", encoding="utf-8")
    os.environ |= {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(moment), "FAKETIME_NO_CACHE": "1",
                   "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    try:
        with serving(folder) as server:
            for name in ("LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE", "FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC"):
                del os.environ[name]
            before, created = files(server), []
            for jump in ("+86400", "-86400", "+0", "-1000000000", "+0"):
                with connect(server) as connection:
                    connection.sendall(request(json.dumps(BODY | {"max_tokens": 60, "ignore_eos": True}).encode()))
                    connection.recv(64)
                    moment.write_text(jump + "\n", encoding="utf-8")
                    check(read_all(connection).endswith(b"0\r\n\r\n"), f"a stream broke off at a jump to {jump}")
                created.append(server.complete(PROMPT, max_tokens=1)["created"])
                check_sound(server, before)
        return f"jumps of a day and of 30 years; answers say they were created at {created}"
    finally:
        os.environ.pop("LD_PRELOAD", None)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def tried(kind: str, args: argparse.Namespace) -> str:
    """Try one kind. Raises BrokenError where something does not hold."""
    with folder() as own:
        if kind in TRIALS:
            with serving(own) as server:
                check_sound(server, files(server) + 1)
                before = files(server)
                told = TRIALS[kind](server, args.count)
                check_sound(server, before)
                return told
        if kind == "clock":
            return clock(own, args.faketime) if args.faketime else "not tried: no --faketime"
        return kill(own) if kind == "kill" else disk(own)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [*TRIALS, "kill", "disk", "clock"]
    parser.add_argument("kinds", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--count", type=int, default=10_000, help="random requests")
    parser.add_argument("--faketime", type=Path, help="libfaketimeMT.so.1")
    args = parser.parse_args()
    broken = 0
    for kind in args.kinds:
        began = time.monotonic()
        try:
            told = tried(kind, args)
        except (BrokenError, OSError, urllib.error.HTTPError, subprocess.SubprocessError) as error:
            broken, told = broken + 1, f"BROKEN: {type(error).__name__}: {error}"
        sys.stdout.write(f"{kind} ({time.monotonic() - began:.0f} s): {told}\n")
        sys.stdout.flush()
    return int(broken > 0)


if __name__ == "__main__":
    raise SystemExit(main())
