#!/usr/bin/env python3
"""Cuts the power of a file system under a loaded broker, again and again, and counts what was lost.

    sudo python3 tests/load/power_cut.py [--rounds 100] [--flush sync] [--fs ext4] [--seconds 1:5] [--keep DIR]

Each round: broker on a file system in a file, mqbench sends and journals every acknowledgement, at a random moment the
broker is stopped, the file system shut down by ioctl (nothing that was not synced reaches its file any more, its own journal
included), the broker killed, the file system mounted again, the broker started, and everything read and compared with the journal.
With --flush sync nothing acknowledged may be lost; with async the end of the log may, and what is lost may have been
acknowledged no earlier than a flush interval and a second before the cut. In both nothing may be doubled, changed or out of order. Needs root, for the mount; uses the release build. Ends with 1 if a round fails, and leaves
the file system's file and the journal for a look.
"""
import argparse
import fcntl
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

from local_broker import BUILD, Broker

# _IOR('X', 125, __u32), the same for ext4, xfs and f2fs; the flag: not even the file system's journal is written.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
# A file system is used for so many rounds: stores that went through many cuts are cut again.
ROUNDS_OF_A_FILE_SYSTEM = 10
# flushIntervalCommitLog and a second.
LOST_AGE_MAX_MS = 500 + 1000
FAULTS = ("lost", "misplaced", "doubled", "corrupt", "unreadable", "out_of_order", "gaps")


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def cut(mount):
    folder = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(folder)


def one_round(options, number, work, mount, image):
    """Returns mqbench's report."""
    journal = work / "journal"
    journal.unlink(missing_ok=True)
    flush = f"{options.flush.upper()}_FLUSH"
    broker = Broker(mount / "store", work / "broker.log", flushDiskType=flush)
    command = [BUILD / "mqbench", "verify", "send", "-n", broker.namesrv, "-t", f"cut{number}", "-j", journal]
    sender = subprocess.Popen([*command, "-d", "3600", "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    least, most = (float(part) for part in options.seconds.split(":"))
    time.sleep(random.uniform(least, most))
    # Without power nobody computes either. A file system that is shut down while a sync runs may call it done, although the
    # blocks it wrote were never entered into the file (ext4: extents that stay "unwritten"): whoever lives on would believe it.
    broker.process.send_signal(signal.SIGSTOP)
    cut_ms = time.time() * 1000
    cut(mount)
    broker.kill()
    sender.kill()
    sender.wait()
    run("umount", mount)
    run("mount", "-o", "loop", image, mount)
    broker = Broker(mount / "store", work / "broker-again.log", flushDiskType=flush)
    command = [BUILD / "mqbench", "verify", "check", "-n", broker.namesrv, "-j", journal, "--json"]
    check = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if not check.stdout.strip():
        sys.exit(f"mqbench could not check round {number}: {check.stderr[-2000:]}")
    broker.stop()
    report = json.loads(check.stdout)
    first_lost_ms = report.pop("first_lost_ms")
    return report | {"lost_age_ms": round(cut_ms - first_lost_ms) if first_lost_ms else 0}, broker.ready_after


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=100)
    arguments.add_argument("--flush", choices=["sync", "async"], default="sync")
    arguments.add_argument("--fs", default="ext4", help="ext4 or xfs")
    arguments.add_argument("--seconds", default="1:5", help="load before the cut, from:to")
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments.add_argument("--keep", help="work here instead of in a new folder")
    options = arguments.parse_args()
    random.seed(options.seed)
    work = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="power-cut-"))
    mount, image = work / "mount", work / "file-system"
    mount.mkdir(parents=True, exist_ok=True)
    print(f"{options.rounds} rounds of {options.flush} flush on {options.fs}, seed {options.seed}, in {work}", flush=True)
    sums, slowest, oldest, mounted = {}, 0.0, 0, False
    try:
        for number in range(options.rounds):
            if number % ROUNDS_OF_A_FILE_SYSTEM == 0:
                if mounted:
                    run("umount", mount)
                mounted = False
                image.unlink(missing_ok=True)
                run("truncate", "-s", "16G", image)
                run(f"mkfs.{options.fs}", "-q", image)
                run("mount", "-o", "loop", image, mount)
                mounted = True
            report, ready_after = one_round(options, number, work, mount, image)
            slowest = max(slowest, ready_after)
            counts = {name: value for name, value in report.items() if isinstance(value, int)}
            for name, value in counts.items():
                sums[name] = sums.get(name, 0) + value
            bad = [name for name in FAULTS if counts.get(name)]
            if options.flush == "async" and counts["lost_before_others"] == 0 and counts["lost_age_ms"] <= LOST_AGE_MAX_MS:
                bad = [name for name in bad if name != "lost"]
            oldest = max(oldest, counts["lost_age_ms"])
            print(f"round {number}: {counts}, ready after {ready_after:.2f} s", flush=True)
            if bad:
                sys.exit(f"round {number}: {', '.join(bad)}; see {work}")
    finally:
        if mounted:
            subprocess.run(["umount", mount], check=False)
    sums.pop("lost_age_ms", None)
    print(f"{options.rounds} rounds: {sums}; slowest start {slowest:.2f} s, oldest loss acknowledged {oldest} ms before")
    image.unlink()


if __name__ == "__main__":
    main()
