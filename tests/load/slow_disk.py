"""A disk that reads so many bytes a second and no more, for the processes put before it: a control group of the block
device, of either version of the kernel's interface. Needs root."""
import os
import pathlib

V1 = pathlib.Path("/sys/fs/cgroup/blkio")
V2 = pathlib.Path("/sys/fs/cgroup")


class SlowDisk:
    """The disk under `folder`, at `read` bytes a second. Use it in a `with`."""

    def __init__(self, folder, read):
        device = os.stat(folder).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        node = pathlib.Path("/sys/dev/block", number).resolve()
        if (node / "partition").exists():
            number = (node.parent / "dev").read_text().strip()
        is_v2 = (V2 / "cgroup.controllers").exists()
        if is_v2 and "io" not in (V2 / "cgroup.subtree_control").read_text():
            (V2 / "cgroup.subtree_control").write_text("+io")
        self.parent = V2 if is_v2 else V1
        self.group = self.parent / f"waspmq-slow-disk-{os.getpid()}"
        self.group.mkdir()
        if is_v2:
            (self.group / "io.max").write_text(f"{number} rbps={read}")
        else:
            (self.group / "blkio.throttle.read_bps_device").write_text(f"{number} {read}")

    def add(self, pid):
        """Everything the process reads from now on comes from the slow disk."""
        (self.group / "cgroup.procs").write_text(str(pid))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in (self.group / "cgroup.procs").read_text().split():
            (self.parent / "cgroup.procs").write_text(pid)
        self.group.rmdir()
