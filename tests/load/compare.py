#!/usr/bin/env python3
"""Runs mqbench against several running brokers in turn, some rounds, and prints medians, spread and ratios.

    python3 tests/load/compare.py java=127.0.0.1:10876 waspmq=127.0.0.1:9876 [--rounds 3] [--only single,batch] [--out FILE]
                                  [--pids java=101,102 waspmq=103]

The first broker is the peer: ratios are against it. A JVM is warmed by 30 s of sends first. Each scenario runs against
one broker, then the other, then again: what else the machine does hits both. With --pids, only the broker that is measured
runs; the others' processes stand still, so that what an idle one does in its spare time is not charged to another.
"""
import argparse
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MQBENCH = TARGET / "release" / "mqbench"

RATE = ("messages/s", lambda run: run["messages_per_second"], True)


def latency(name):
    return (f"{name} µs", lambda run: run["latency"][name.replace(".", "_")], False)


# name, what it prepares (once a broker), what it measures, figures
SCENARIOS = {
    "single": (None, "produce -t single{round} -d 6 -w 2 -c 4 --in-flight 64", [RATE]),
    "batch": (None, "produce -t batch{round} -d 4 -w 4 -c 4 --in-flight 8 --batch 32", [RATE]),
    "one": (None, "produce -t one -d 5 -w 2 -c 1 --in-flight 1", [latency("p50"), latency("p99")]),
    "rate": (None, "latency -t rate -d 12 -w 3 --rate 5000", [latency("p50"), latency("p99"), latency("p99.9")]),
    "consume": (
        "produce -t consume --count 2000000 -d 120 -c 4 --in-flight 64 --tags a,b,c,d --property a=12",
        "consume -t consume -d 6 -w 3 -c 4 --pull 32 --again",
        [RATE],
    ),
    "tag": (None, "consume -t consume -d 6 -w 3 -c 4 --pull 32 --again --group tag -e a||b||c||d", [RATE]),
    "sql": (
        None,
        "consume -t consume -d 6 -w 3 -c 4 --pull 32 --again --group sql --expression-type SQL92 -e 'a > 5'",
        [RATE],
    ),
}


def mqbench(namesrv, command):
    words = shlex.split(command)
    run = subprocess.run(
        [MQBENCH, words[0], "-n", namesrv, "--json", *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if not run.stdout.strip():
        sys.exit(f"mqbench {command} against {namesrv} failed:\n{run.stderr[-2000:]}")
    result = json.loads(run.stdout)
    if result["errors"]:
        print(f"  errors against {namesrv}: {result['errors']}", file=sys.stderr)
    return result


def only_one_runs(name, pids):
    """Lets the processes of one broker go on and stops those of the others; of all, for no name."""
    for broker, processes in pids.items():
        for process in processes:
            os.kill(process, signal.SIGCONT if name in (broker, None) else signal.SIGSTOP)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("brokers", nargs="+", metavar="NAME=NAMESRV", help="the peer first")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, comma-separated")
    arguments.add_argument("--warm", type=float, default=30, help="seconds of sends that warm the peer first")
    arguments.add_argument("--pause", type=float, default=3, help="seconds of rest between runs")
    arguments.add_argument("--pids", nargs="*", default=[], metavar="NAME=PID[,PID]", help="what runs a broker")
    arguments.add_argument("--out", help="all results, as JSON")
    options = arguments.parse_args()
    brokers = [tuple(broker.split("=", 1)) for broker in options.brokers]
    names = [name for name, _ in brokers]
    pids = {name: [int(pid) for pid in list_.split(",")] for name, list_ in (pair.split("=") for pair in options.pids)}
    if options.warm:
        mqbench(brokers[0][1], f"produce -t warm -d {options.warm} -c 4 --in-flight 64")
    print(f"| what | {' | '.join(names)} | ratio | of each round |\n|---|{'---|' * (len(names) + 2)}", flush=True)
    everything = {}
    for scenario in options.only.split(","):
        prepare, measure, figures = SCENARIOS[scenario]
        runs = {name: [] for name in names}
        if prepare:
            for _, namesrv in brokers:
                mqbench(namesrv, prepare)
        for round_ in range(options.rounds):
            for name, namesrv in brokers:
                # What earlier runs left in memory would be written during this one.
                os.sync()
                only_one_runs(name, pids)
                time.sleep(options.pause)
                try:
                    runs[name].append(mqbench(namesrv, measure.format(round=round_)))
                finally:
                    only_one_runs(None, pids)
        everything[scenario] = runs
        for label, figure, _ in figures:
            values = {name: [figure(run) for run in runs[name]] for name in names}
            cells = " | ".join(f"{statistics.median(values[name]):,.0f}" for name in names)
            ratios = [b / a for a, b in zip(values[names[0]], values[names[-1]])]
            spread = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"| {scenario}, {label} | {cells} | {statistics.median(ratios):.2f}× | {spread} |", flush=True)
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
