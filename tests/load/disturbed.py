#!/usr/bin/env python3
"""How much longer sends take while files roll, retention deletes and somebody reads what nobody remembers.

    sudo python3 tests/load/disturbed.py [--rate 20000] [--seconds 20] [--gigabytes 10] [--rounds 3] [--disk MIB_A_SECOND]
                                          [--readers 10] [--receive] [--keep DIR]

One broker, files of 64 MiB, a log of many gigabytes. In turns: the wait of sends at a fixed rate while nothing else is asked; then
the log, dropped from memory, is read from its start while the same sends go on, and each new file makes the oldest one
go. The readers' own processes get what processor nobody else wants, as if they ran on other machines; the broker's threads that
serve them do not. --disk limits what the broker reads to what a disk of that speed would give.
With --receive it is the wait from a send to its receipt by a consumer at the tail, who shall not be slowed down by --readers at the
start. Root is needed for --disk and for dropping the page cache. Uses the release build.
"""
import argparse
import contextlib
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile

from local_broker import BUILD, RECORD_BYTES, Broker, drop_caches
from slow_disk import SlowDisk

FILE_BYTES = 64 << 20


def bench(broker, command, *arguments):
    return [BUILD / "mqbench", command, "-n", broker.namesrv, "--json", *arguments]


def latency(options, broker):
    arguments = ["-t", "sent", "-r", str(options.rate), "-d", str(options.seconds), "-w", "3"]
    arguments += [] if options.receive else ["--no-receive"]
    found = subprocess.run(bench(broker, "latency", *arguments), check=True, capture_output=True, text=True)
    report = json.loads(found.stdout)
    report = report["receipt"] if options.receive else report["latency"]
    return {name: report[name] for name in ("p50", "p99", "p99_9", "max")}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rate", type=int, default=20_000, help="messages a second")
    arguments.add_argument("--seconds", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--disk", type=int, help="MiB a second that the disk reads at most")
    arguments.add_argument("--readers", type=int, default=1, help="who read from the start")
    arguments.add_argument("--receive", action="store_true", help="measure until messages are received")
    arguments.add_argument("--gigabytes", type=float, default=10)
    arguments.add_argument("--keep", help="work here instead of in a folder that is removed")
    options = arguments.parse_args()
    work = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="disturbed-"))
    work.mkdir(parents=True, exist_ok=True)
    kept = int(options.gigabytes * 1e9)
    # Looks often, so that a file goes for every one that comes.
    settings = {"mappedFileSizeCommitLog": FILE_BYTES, "commitLogRetentionBytes": kept, "cleanResourceInterval": 1000}
    broker = Broker(work / "store", work / "broker.log", **settings)
    count = int(kept / RECORD_BYTES)
    fill = ["-t", "old", "--batch", "32", "--count", str(count), "-d", "600"]
    subprocess.run(bench(broker, "produce", *fill), check=True, stdout=subprocess.DEVNULL)
    with SlowDisk(work, options.disk << 20) if options.disk else contextlib.nullcontext() as slow:
        ratios = []
        for number in range(1, options.rounds + 1):
            # What a process has mapped is not dropped from memory.
            broker.stop()
            drop_caches()
            broker = Broker(work / "store", work / "broker.log", **settings)
            if slow:
                slow.add(broker.process.pid)
            quiet = latency(options, broker)
            print(f"round {number}, quiet: {quiet} µs", flush=True)
            disturbed = disturb(options, broker, work)
            ratios.append({name: disturbed[name] / quiet[name] for name in quiet})
            print("  of the quiet ones: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios[-1].items()), flush=True)
    medians = {name: statistics.median(ratio[name] for ratio in ratios) for name in ratios[0]}
    print("median of the rounds: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in medians.items()))
    broker.stop()
    if not options.keep:
        shutil.rmtree(work)


def disturb(options, broker, work):
    """Quantiles while somebody reads from the start."""
    before = log_files(work)
    readers = [read(broker, number) for number in range(options.readers)]
    disturbed = latency(options, broker)
    after = log_files(work)
    rolled, deleted = len(after - before), len(before - after)
    still_reading = all(reader.poll() is None for reader in readers)
    rate = 0
    for reader in readers:
        reader.terminate()
        seconds = [line.split() for line in reader.communicate()[1].splitlines() if " msg/s " in line]
        rate += statistics.median(int(words[2]) * RECORD_BYTES for words in seconds)
    print(f"  while {rolled} files of {len(before)} roll, {deleted} are deleted and {options.readers} read from the start, "
          f"{rate / (1 << 20):.0f} MiB/s{'' if still_reading else ' (not to the end of the round)'}: {disturbed} µs", flush=True)
    return disturbed


def read(broker, number):
    command = ["chrt", "--idle", "0", *bench(broker, "consume", "-t", "old", "-d", "600", "--group", f"reader-{number}")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def log_files(work):
    return {path.name for path in (work / "store" / "commitlog").iterdir()}


if __name__ == "__main__":
    main()
