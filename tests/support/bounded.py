"""Work in a process of its own, under limits of memory and time: what hostile files are given to."""

import json
import resource
import sys
import time
import warnings
from importlib import import_module
from typing import Any

from support.processes import Child

_CODE = "from support.bounded import answer; answer()"
_GIGABYTES = 2  # of addresses, beside what the process has when it begins
_SECONDS = 8  # of processor time: what a file may take on a busy machine, and what starts a process


class Outcome:
    """What the work said, and the megabytes of memory that it took at its peak beside what there was before."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.error: str | None = said["error"]
        self.kind: str = said["kind"]
        self.megabytes: float = said["megabytes"]
        self.result: Any = said["result"]


def bounded(
    work: str,
    *arguments: str,
    imported: tuple[str, ...] = (),
    gigabytes: int = _GIGABYTES,
    seconds: int = _SECONDS,
    silent: bool = True,
) -> Outcome:
    """Run `module:function` with these arguments. Fails where it is killed, or raises anything but an error of ours.

    `silent`: fails where anything is written to standard error, too.
    """
    module = work.partition(":")[0]
    with Child((*imported, module, "support.bounded"), _CODE, str(gigabytes), str(seconds), work, *arguments) as child:
        said, trace = child.stdout.read(), child.stderr.read()
        code = child.wait(60)
    assert code == 0, (work, arguments[:1], code, trace[-2000:])
    assert not (trace and silent), (work, arguments[:1], trace[-2000:])
    return Outcome(json.loads(said.splitlines()[-1]))


def answer() -> None:
    """What the process does."""
    from tandem.errors import TandemError

    memory, seconds = int(sys.argv[1]) * 2**30, int(sys.argv[2])
    work, *arguments = sys.argv[3:]
    module, _, name = work.partition(":")
    function = getattr(import_module(module), name)
    now = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    used = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds))
    with open("/proc/self/clear_refs", "w") as file:  # the peak is counted from here
        file.write("5")
    before = _status("VmRSS")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata, as commands do it
    said: dict[str, Any] = {"error": None, "kind": "", "result": None}
    try:
        said["result"] = function(*arguments)
    except TandemError as error:
        said |= {"error": str(error), "kind": type(error).__name__}
    said["megabytes"] = (_status("VmHWM") - before) / 1e6
    print(json.dumps(said))


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{key}:"))
