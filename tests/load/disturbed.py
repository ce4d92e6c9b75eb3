#!/usr/bin/env python3
"""How much longer sends take while files roll, retention deletes and somebody reads what nobody remembers.

    sudo python3 tests/load/disturbed.py [--rate 20000] [--seconds 30] [--gigabytes 10] [--keep DIR]

One broker, files of 64 MiB: the wait of sends at a fixed rate on the quiet broker first; then a log of many gigabytes is
written, dropped from memory, and read from its start while the same sends go on, and each new file makes the oldest one go.
Root is needed for dropping the page cache. Uses the release build.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

from local_broker import BUILD, Broker

FILE_BYTES = 64 << 20
# What a message of the benchmark takes in the log.
RECORD_BYTES = 1220


def bench(broker, command, *arguments):
    return [BUILD / "mqbench", command, "-n", broker.namesrv, "--json", *arguments]


def latency(options, broker):
    arguments = ["-t", "sent", "-r", str(options.rate), "-d", str(options.seconds), "-w", "3", "--no-receive"]
    found = subprocess.run(bench(broker, "latency", *arguments), check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def quantiles(report):
    report = report.get("acknowledged", report.get("latency", report))
    return {name: report[name] for name in ("p50", "p99", "p99_9", "max")}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rate", type=int, default=20_000, help="messages a second")
    arguments.add_argument("--seconds", type=int, default=30)
    arguments.add_argument("--gigabytes", type=float, default=10)
    arguments.add_argument("--keep", help="work here instead of in a folder that is removed")
    options = arguments.parse_args()
    work = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="disturbed-"))
    work.mkdir(parents=True, exist_ok=True)
    kept = int(options.gigabytes * 1e9)
    # Looks often, so that a file goes for every one that comes.
    settings = {"mappedFileSizeCommitLog": FILE_BYTES, "commitLogRetentionBytes": kept, "cleanResourceInterval": 1000}
    broker = Broker(work / "store", work / "broker.log", **settings)
    quiet = quantiles(latency(options, broker))
    print(f"quiet: {quiet} µs", flush=True)
    count = int(kept / RECORD_BYTES)
    fill = ["-t", "old", "--batch", "32", "--count", str(count), "-d", "600"]
    subprocess.run(bench(broker, "produce", *fill), check=True, stdout=subprocess.DEVNULL)
    time.sleep(3)
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    before = log_files(work)
    reader = subprocess.Popen(["nice", "-n", "19", *bench(broker, "consume", "-t", "old", "-d", "600")], stdout=subprocess.PIPE, text=True)
    disturbed = quantiles(latency(options, broker))
    after = log_files(work)
    rolled, deleted = len(after - before), len(before - after)
    still_reading = reader.poll() is None
    print(f"while {rolled} files roll, {deleted} are deleted and {len(before)} are read cold "
          f"({'to the end of the run' if still_reading else 'not to the end of the run'}): {disturbed} µs", flush=True)
    reader.terminate()
    read = reader.communicate()[0].strip()
    if read:
        print(f"  the reader: {json.loads(read)['mebibytes_per_second']:.0f} MiB/s")
    for name in quiet:
        print(f"  {name}: {disturbed[name] / quiet[name]:.2f} of the quiet one")
    broker.stop()
    if not options.keep:
        shutil.rmtree(work)


def log_files(work):
    return {path.name for path in (work / "store" / "commitlog").iterdir()}


if __name__ == "__main__":
    main()
