#!/usr/bin/env python3
"""Floods a gateway, and shows what another visitor and another connector notice of it.

    cargo build --release
    python3 cli/benches/load/flood.py                        # all floods, some 30 minutes
    python3 cli/benches/load/flood.py idle unread --seconds 5 --rest 10

Everything is on loopback and bounded in number and time: an app, a gateway with a connector, nginx as a plain proxy to the
same app as the control, attackers from 127.0.1.x (attackers.py says what they do), and one visitor from 127.0.2.1, who asks
for a page on a new connection every 20 ms. Needs Linux, nginx, and Python 3.9 or later; the floods of links need its
package cryptography. Exits with 1 if something in the table it prints does not hold:

- p50 and p99 are the visitor's in milliseconds, during the flood and half of --rest after it; no answer, or another
  than 200, counts as slower than all. During a flood p99 may be 3 times nginx's under the same; or 3 times one's own
  without a flood, if that is more or nginx cannot have it.
- Memory is the RSS in MiB of gateway + connector, or of nginx, before, at most, and --rest after its end: at most what
  `gesher check` says (bound), and in the end at most 20 % more than before.
- Join is how many seconds another connector took to join during the flood: at most 5.
"""
import argparse
import asyncio
import math
import multiprocessing
import os
import re
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time

from attackers import FLOODS, request, serve

VISITOR = ("127.0.2.1", 0)
JOIN_SECONDS_MAX = 5
SETTLE_SECONDS = 25  # until the memory in which keys were derived has gone back
ENVIRONMENT = {**os.environ, "GESHER_SECRET": "flood-on-loopback-and-nowhere-else", "GESHER_PIN": "FKQ7M2XW9T"}
COLUMNS = ["flood", "beside", "p50", "p99", "p50 after", "p99 after", "MiB before", "most", "after", "bound",
           "descriptors most", "after", "join s", "holds"]


# ---- the visitor ----

async def page(to):
    reader, writer = await asyncio.open_connection(*to, local_addr=VISITOR)
    try:
        writer.write(request("GET", "/", "Connection: close"))
        return await reader.read()
    finally:
        writer.transport.abort()


async def visit(to, seconds):
    """Median and 99th percentile of a page, in milliseconds."""
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            is_right = (await asyncio.wait_for(page(to), 10)).startswith(b"HTTP/1.1 200 ")
        except (OSError, asyncio.TimeoutError):
            is_right = False
        took.append(1000 * (time.monotonic() - began) if is_right else math.inf)
        await asyncio.sleep(0.02)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


# ---- processes ----

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx(folder, port, descriptors, locations):
    os.mkdir(folder)
    temp = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(f"{folder}/conf", "w") as conf:
        conf.write(f"""
            worker_processes 1; worker_rlimit_nofile {descriptors}; daemon off; pid {folder}/pid; error_log /dev/null;
            events {{ worker_connections {descriptors - 16}; }}
            http {{
                access_log off; {temp} keepalive_requests 1000000; client_max_body_size 0;
                proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
                server {{ listen 127.0.0.1:{port} backlog=1024; {locations} }}
            }}""")
    return subprocess.Popen(["nginx", "-c", f"{folder}/conf", "-p", folder], stderr=subprocess.DEVNULL)


def gesher(options, *arguments, descriptors=None, stderr=subprocess.DEVNULL):
    def limit():
        if descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    return subprocess.Popen([options.gesher, *arguments], env=ENVIRONMENT, preexec_fn=limit, stdout=subprocess.PIPE,
                            stderr=stderr)


def client(to, app):
    return "client", "--gateway", f"http://127.0.0.1:{to[1]}", "--target", f"http://127.0.0.1:{app}"


def bound(options, *arguments, descriptors=None):
    """The MiB that a process may hold at most."""
    said = gesher(options, "check", *arguments, descriptors=descriptors).communicate()[0]
    return int(re.search(rb"Memory at most (\d+) MiB", said)[1])


def join(options, to, app):
    """How many seconds another connector takes to join; no more than a minute."""
    began = time.monotonic()
    process = gesher(options, *client(to, app), "--log-format", "json", stderr=subprocess.PIPE)
    try:
        while time.monotonic() < began + 60 and select.select([process.stderr], [], [], 60)[0]:
            if b'"connected"' in process.stderr.readline():
                return time.monotonic() - began
        return math.inf
    finally:
        stop([process])


def family(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [pid, *map(int, children.read().split())]


def held(process):
    """Resident MiB, and descriptors."""
    pages = descriptors = 0
    for pid in family(process.pid):
        with open(f"/proc/{pid}/statm") as statm:
            pages += int(statm.read().split()[1])
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    return pages * resource.getpagesize() / (1 << 20), descriptors


def stop(processes):
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# ---- a run ----

class Flooded:
    """The gateway with its connector, or nginx, and what was seen of it."""

    def __init__(self, options, flood, beside, folder, app):
        self.options, self.flood, self.beside, self.app = options, flood, beside, app
        self.to = ("127.0.0.1", free_port())
        self.bounds = []
        if beside == "nginx":
            locations = f"location / {{ proxy_pass http://127.0.0.1:{app}; }}"
            self.processes = [nginx(f"{folder}/{self.to[1]}", self.to[1], flood.descriptors or 20000, locations)]
        else:
            server = ("server", "--bind", "127.0.0.1", "--port", str(self.to[1]))
            self.processes = [gesher(options, *server, descriptors=flood.descriptors)]
            self.processes[0].stdout.readline()
            self.processes.append(gesher(options, *client(self.to, app)))
            self.bounds = [bound(options, *server, descriptors=flood.descriptors), bound(options, *client(self.to, app))]

    def held(self):
        return [held(process) for process in self.processes]

    async def watch(self):
        while True:
            self.all_held.append(self.held())
            await asyncio.sleep(0.2)

    async def suffer(self):
        await visit(self.to, 2)
        self.before = self.held()
        self.all_held = [self.before]
        attackers = multiprocessing.Process(target=attack, args=(self.flood, self.to))
        watching = asyncio.create_task(self.watch())
        attackers.start()
        await asyncio.sleep(2)
        joining = asyncio.to_thread(join, self.options, self.to, self.app) if self.beside == "gesher" else asyncio.sleep(0)
        self.during, self.joined = await asyncio.gather(visit(self.to, self.options.seconds), joining)
        attackers.kill()
        attackers.join()
        self.ended = time.monotonic()
        watching.cancel()

    async def recover(self):
        await asyncio.sleep(max(0, self.ended + self.options.rest / 2 - time.monotonic()))
        self.later = await visit(self.to, 2)
        await asyncio.sleep(max(0, self.ended + self.options.rest - time.monotonic()))
        self.after = self.held()

    def row(self, p99_max, name):
        most, descriptors = ([max(sample[index][what] for sample in self.all_held) for index in range(len(self.processes))]
                             for what in (0, 1))
        broken = []
        if self.beside == "gesher":
            if self.during[1] > p99_max:
                broken.append(f"p99 over {p99_max:.0f}")
            if self.joined > JOIN_SECONDS_MAX:
                broken.append("join")
            if any(held > bound for held, bound in zip(most, self.bounds)):
                broken.append("bound")
            if any(after[0] > 1.2 * before[0] for after, before in zip(self.after, self.before)):
                broken.append("memory stays")

        def each(form, values):
            return " + ".join(form % value for value in values)

        return [name, self.beside, *("%.1f" % value for value in (*self.during, *self.later)),
                *(each("%.1f", values) for values in ([mib for mib, _ in self.before], most, [mib for mib, _ in self.after])),
                each("%d", self.bounds), each("%d", descriptors), each("%d", [count for _, count in self.after]),
                "" if self.joined is None else "%.1f" % self.joined, ", ".join(broken) or "yes"]


def attack(flood, to):
    asyncio.run(flood.run(to))


def keep(port):
    asyncio.run(serve(port))


async def measure(options, name, folder, app, alone):
    """The rows of one flood, and the visitor's p99 without any: None before that is known."""
    flood = FLOODS[name](ENVIRONMENT["GESHER_SECRET"], ENVIRONMENT["GESHER_PIN"])
    flooded = []
    try:
        for beside in ("gesher", "nginx") if flood.beside_nginx else ("gesher",):
            flooded.append(Flooded(options, flood, beside, folder, app))
        await asyncio.sleep(SETTLE_SECONDS)
        for each in flooded:
            await each.suffer()
        for each in flooded:
            await each.recover()
    finally:
        stop([process for each in flooded for process in each.processes])
    alone = alone or flooded[0].during[1]
    p99_max = 3 * max(alone, *(each.during[1] for each in flooded[1:] if math.isfinite(each.during[1])), 0)
    return [each.row(p99_max, name) for each in flooded], alone


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("floods", nargs="*", metavar="FLOOD", help="of " + ", ".join(FLOODS) + "; all if none is given")
    parser.add_argument("--gesher", default="target/release/gesher", help="the program (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="how long each flood lasts, at most 60 (%(default)s)")
    parser.add_argument("--rest", type=float, default=60, help="after how long memory has to be back (%(default)s)")
    options = parser.parse_args()
    options.seconds = min(options.seconds, 60)
    unknown = [name for name in options.floods if name not in FLOODS]
    if unknown:
        parser.error("no such flood: " + ", ".join(unknown))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows, alone = [COLUMNS], None
    with tempfile.TemporaryDirectory(prefix="gesher-flood-") as folder:
        os.chmod(folder, 0o755)  # nginx reads files as another user
        os.mkdir(f"{folder}/files")
        with open(f"{folder}/files/large", "wb") as large:
            large.truncate(1 << 20)
        app, held_by = free_port(), free_port()
        keeper = multiprocessing.Process(target=keep, args=(held_by,))
        keeper.start()
        server = nginx(f"{folder}/app", app, 20000, f"""location / {{ return 200 '{'x' * 128}'; }}
            location /large {{ root {folder}/files; }} location /hold {{ proxy_pass http://127.0.0.1:{held_by}; }}""")
        try:
            for name in ["none", *(name for name in options.floods or FLOODS if name != "none")]:
                more, alone = asyncio.run(measure(options, name, folder, app, alone))
                for row in more:
                    print("  ".join(row), file=sys.stderr, flush=True)
                rows += more
        finally:
            stop([server])
            keeper.kill()
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return int(any(row[-1] != "yes" for row in rows[1:]))


if __name__ == "__main__":
    sys.exit(main())
