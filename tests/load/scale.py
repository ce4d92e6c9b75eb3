#!/usr/bin/env python3
"""Gives a broker very many queues with one message each, and measures how it starts and what it holds.

    python3 tests/load/scale.py [--topics 10000] [--queues 8] [--keep DIR]

Creates the topics as mqadmin does (request 17), sends one message to each queue, then starts the broker again after a clean
stop, after kill -9, and after kill -9 with as many messages once more behind the last syncs. Each time: seconds until ready, memory
of its own (RssAnon), open files; then every queue is pulled and must hold what was sent. Uses the release build.
"""
import argparse
import json
import os
import pathlib
import shutil
import socket
import struct
import sys
import tempfile
import time

from local_broker import Broker

SEND_MESSAGE, PULL_MESSAGE, UPDATE_AND_CREATE_TOPIC = 10, 11, 17
SUCCESS = 0
IN_FLIGHT = 256


def figures(broker):
    status = pathlib.Path(f"/proc/{broker.process.pid}/status").read_text()
    kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")))
    files = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
    return {"ready_s": round(broker.ready_after, 3), "rss_anon_mib": round(kib / 1024, 1), "open_files": files}


class Connection:
    """Requests with JSON headers, many at a time; answers come in any order."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb", buffering=1 << 20)

    def answers(self):
        total, header_bytes = struct.unpack(">II", self.input.read(8))
        header_bytes &= 0xFFFFFF
        header = json.loads(self.input.read(header_bytes))
        return header, self.input.read(total - 4 - header_bytes)

    def ask_all(self, requests):
        """Yields (number of the request, header, body) of every answer; a refused one ends the run."""
        waiting, out = 0, bytearray()
        requests = enumerate(requests)
        while True:
            while waiting < IN_FLIGHT:
                request = next(requests, None)
                if request is None:
                    break
                number, (code, fields, body) = request
                header = {"code": code, "flag": 0, "language": "PYTHON", "opaque": number, "version": 0, "extFields": fields}
                header = json.dumps(header).encode()
                out += struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body
                waiting += 1
            if waiting == 0:
                return
            self.socket.sendall(out)
            out.clear()
            # Half of them, so that the broker always has some.
            for _ in range((waiting + 1) // 2):
                header, body = self.answers()
                waiting -= 1
                if header["code"] != SUCCESS:
                    sys.exit(f"request {header['opaque']} was answered with {header['code']}: {header.get('remark')}")
                yield header["opaque"], header, body


def topic(number):
    return f"scale-{number:05}"


def creations(options):
    for number in range(options.topics):
        fields = {"topic": topic(number), "defaultTopic": "TBW102", "perm": "6", "topicFilterType": "SINGLE_TAG"}
        fields |= {"readQueueNums": str(options.queues), "writeQueueNums": str(options.queues)}
        yield UPDATE_AND_CREATE_TOPIC, fields | {"topicSysFlag": "0", "order": "false"}, b""


def sends(options):
    for number in range(options.topics * options.queues):
        at, queue = divmod(number, options.queues)
        fields = {"producerGroup": "scale", "topic": topic(at), "defaultTopic": "TBW102", "defaultTopicQueueNums": "4"}
        fields |= {"queueId": str(queue), "sysFlag": "0", "bornTimestamp": "1700000000000", "flag": "0", "properties": ""}
        yield SEND_MESSAGE, fields, b"message %08d" % number


def pulls(options, offset):
    for number in range(options.topics * options.queues):
        at, queue = divmod(number, options.queues)
        fields = {"consumerGroup": "scale", "topic": topic(at), "queueId": str(queue), "queueOffset": str(offset)}
        fields |= {"maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0"}
        yield PULL_MESSAGE, fields | {"subscription": "*", "subVersion": "0", "expressionType": "TAG"}, b""


def check(options, port, rounds):
    """Every queue has one message of each round."""
    for offset in range(rounds):
        for number, header, body in Connection(port).ask_all(pulls(options, offset)):
            fields = header["extFields"]
            if b"message %08d" % number not in body or int(fields["maxOffset"]) != rounds:
                sys.exit(f"queue {number} does not hold what was sent: {fields}")


def ask(port, requests):
    begun = time.monotonic()
    count = sum(1 for _ in Connection(port).ask_all(requests))
    return count / (time.monotonic() - begun)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--topics", type=int, default=10_000)
    arguments.add_argument("--queues", type=int, default=8, help="of each topic")
    arguments.add_argument("--keep", help="work here instead of in a folder that is removed")
    options = arguments.parse_args()
    work = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="scale-"))
    work.mkdir(parents=True, exist_ok=True)
    broker = Broker(work / "store", work / "broker.log")
    print(f"empty: {figures(broker)}", flush=True)
    print(f"{options.topics} topics made, {ask(broker.port, creations(options)):.0f} a second", flush=True)
    print(f"{options.topics * options.queues} messages sent, {ask(broker.port, sends(options)):.0f} a second: {figures(broker)}")
    time.sleep(2)
    broker.stop()
    broker = Broker(work / "store", work / "broker.log")
    print(f"after a clean stop: {figures(broker)}", flush=True)
    check(options, broker.port, 1)
    print(f"  everything pulled: {figures(broker)}", flush=True)
    broker.kill()
    broker = Broker(work / "store", work / "broker.log")
    print(f"after kill -9: {figures(broker)}", flush=True)
    ask(broker.port, sends(options))
    broker.kill()
    broker = Broker(work / "store", work / "broker.log")
    print(f"after kill -9 with a message more in each queue: {figures(broker)}", flush=True)
    check(options, broker.port, 2)
    print(f"  everything pulled: {figures(broker)}", flush=True)
    broker.stop()
    if not options.keep:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
