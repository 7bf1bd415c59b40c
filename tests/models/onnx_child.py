"""ONNX files loaded in a process of its own, which says how each ended and what memory it took.

``python onnx_child.py FILE ...`` prints a line of JSON when it is ready and one for each file. The peak is the kernel's
of this process; getrusage has that of the process before it, too.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from onnx import TensorProto, helper

from edgeprune.errors import EdgepruneError
from edgeprune.models.loading import load_model

SECONDS = 60
"""For one file; a process that takes longer is stopped. Each takes a few where nothing else runs."""
ROOM = 4 * 2**30
"""Address space beyond what is used at the start: a test shall fail, not the machine."""


def run(files: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """How each file ended, in a process whose folder is ``folder``. Where that ends early, another takes the rest."""
    results: list[dict[str, Any]] = []
    while len(results) < len(files):
        command = [sys.executable, __file__, *map(str, files[len(results) :])]
        with tempfile.TemporaryFile() as said:
            # Unbuffered: a line that was read ahead would be waited for.
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, cwd=folder, bufsize=0)
            assert child.stdout is not None
            ready = False
            while len(results) < len(files):
                if not select.select([child.stdout], [], [], SECONDS if ready else 120)[0]:
                    results.append({"kind": f"more than {SECONDS} s", "at": _where(child, said)})
                    break
                line = child.stdout.readline()
                if not line:
                    results.append({"kind": f"the process ended with {child.wait()}"})
                    break
                if ready:
                    results.append(json.loads(line))
                ready = True
            child.kill()
            child.wait()
            child.stdout.close()
    return results


def _where(child: subprocess.Popen[bytes], said: IO[bytes]) -> str:
    """Where a process is that does not end."""
    said.seek(0, 2)
    before = said.tell()
    child.send_signal(signal.SIGUSR1)
    time.sleep(2)
    said.seek(before)
    return said.read().decode(errors="replace")


def _status(field: str) -> int:
    """Bytes of a field of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def _ended(file: str) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew from here
    before = _status("VmRSS")
    kind, code, message = "loaded", 0, ""
    try:
        load_model(file)
    except BaseException as error:
        kind, message = type(error).__name__, str(error)
        code = error.exit_code if isinstance(error, EdgepruneError) else 1
    return {"kind": kind, "code": code, "message": message, "taken": _status("VmHWM") - before}


def _warm() -> None:
    """What is imported at the first load counts for no file."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1, 3, 3)) for name in "xwy"]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "net", infos[:2], infos[2:])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "net.onnx")
        file.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
        load_model(str(file))


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    _warm()
    # What is there now stays: without this, the collection after each file walks over all of torch and onnx.
    gc.collect()
    gc.freeze()
    limit = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps({"ready": True}), flush=True)
    for name in sys.argv[1:]:
        print(json.dumps(_ended(name)), flush=True)
        gc.collect()
