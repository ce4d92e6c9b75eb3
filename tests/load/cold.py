#!/usr/bin/env python3
"""How fast a consumer gets what no memory holds, against what the disk gives.

    sudo python3 tests/load/cold.py [--gigabytes 10] [--rounds 3] [--disk MIB_A_SECOND] [--keep DIR]

Writes a log, then in turns: reads its files one after the other with nothing in the page cache, and consumes the topic from its
start with nothing in the page cache. A disk that is faster than consumers are here, reader and broker on one machine, says little:
--disk makes it slower. Root is needed for that and for dropping the page cache. Uses the release build.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from local_broker import BUILD, RECORD_BYTES, Broker, drop_caches
from slow_disk import SlowDisk



def read_files(log, slow):
    """Bytes a second of `dd`."""
    files = sorted(log.iterdir())
    enter = slow.add if slow else lambda pid: None
    begun = time.monotonic()
    for file in files:
        command = ["dd", f"if={file}", "of=/dev/null", "bs=1M"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, preexec_fn=lambda: enter(os.getpid()))
    return sum(file.stat().st_blocks * 512 for file in files) / (time.monotonic() - begun)


def consume(broker, count):
    """Bytes of the log a second."""
    command = [BUILD / "mqbench", "consume", "-n", broker.namesrv, "--json", "-t", "old", "--count", str(count), "-d", "600"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)["messages_per_second"] * RECORD_BYTES


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gigabytes", type=float, default=10)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--disk", type=int, help="MiB a second that the disk reads at most")
    arguments.add_argument("--keep", help="work here instead of in a folder that is removed")
    options = arguments.parse_args()
    work = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="cold-"))
    work.mkdir(parents=True, exist_ok=True)
    count = int(options.gigabytes * 1e9 / RECORD_BYTES) // 32 * 32
    broker = Broker(work / "store", work / "broker.log")
    fill = [BUILD / "mqbench", "produce", "-n", broker.namesrv, "-t", "old", "--batch", "32", "--count", str(count), "-d", "600"]
    subprocess.run(fill, check=True, stdout=subprocess.DEVNULL)
    with SlowDisk(work, options.disk << 20) if options.disk else contextlib.nullcontext() as slow:
        ratios = []
        for number in range(1, options.rounds + 1):
            # What a process has mapped is not dropped.
            broker.stop()
            drop_caches()
            disk = read_files(work / "store" / "commitlog", slow)
            drop_caches()
            broker = Broker(work / "store", work / "broker.log")
            if slow:
                slow.add(broker.process.pid)
            consumed = consume(broker, count)
            ratios.append(consumed / disk)
            print(f"round {number}: the disk {disk / (1 << 20):.0f} MiB/s, consumed {consumed / (1 << 20):.0f} MiB/s of the log, "
                  f"{ratios[-1]:.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f} of the disk")
    broker.stop()
    if not options.keep:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
