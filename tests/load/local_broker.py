"""A broker of the release build on ports of its own, for the scripts beside this file."""
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
READY_WITHIN_S = 120
# What a message of mqbench takes in the log, as it is unless told otherwise.
RECORD_BYTES = 1220


class Broker:
    """Started, and ready. `settings` are keys of broker.conf with their values."""

    def __init__(self, data, log, **settings):
        self.port, namesrv = random.sample(range(20000, 30000, 4), 2)
        self.namesrv = f"127.0.0.1:{namesrv}"
        self.log = open(log, "w")
        command = [BUILD / "broker", "--data", data, "--advertise", "127.0.0.1"]
        command += ["--listen-port", str(self.port), "--namesrv-port", str(namesrv)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        begun = time.monotonic()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        while "ready after" not in pathlib.Path(log).read_text():
            if self.process.poll() is not None or time.monotonic() > begun + READY_WITHIN_S:
                self.kill()
                sys.exit(f"the broker did not start; see {log}")
            time.sleep(0.002)
        self.ready_after = time.monotonic() - begun

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=READY_WITHIN_S) != 0:
            sys.exit("the broker did not end cleanly")
        self.log.close()


def drop_caches():
    """Empties the page cache, but for what some process has mapped. Needs root."""
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
