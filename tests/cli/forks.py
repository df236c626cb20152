"""Commands as forks of one process that has imported what they need: as new as a process, without its four seconds.

What a command does is the same but for the seed of hashes, which its forks share, and what Python reads from the
environment when it starts. Tests of these start Python anew.
"""

import array
import atexit
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

_PATIENCE = 1200  # seconds, against hanging

_MODULES = (
    "shopfit.cli.app",
    "shopfit.curve",
    "shopfit.active_learning",
    "shopfit.pipeline",
    "shopfit.starter",
    "shopfit.evaluation.picture",
    "peft",
    "sklearn.linear_model",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
)


class Forks:
    """Runs commands. Use it as a context manager.

    Args:
        folder: where its socket lies.
    """

    def __init__(self, folder: Path) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / "forks"))
        self._listening.listen()
        command = [sys.executable, "-m", "tests.cli.forks", str(folder / "forks")]
        root = Path(__file__).parents[2]
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
        self._parent = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._line, _ = self._listening.accept()
        self._line.settimeout(_PATIENCE)

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._listening.close()
        self._parent.wait(60)

    def run(self, arguments: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run `shopfit` with arguments, in this folder, with an environment."""
        (out, into_out), (err, into_err) = os.pipe(), os.pipe()
        asked = json.dumps({"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}).encode()
        handles = array.array("i", [into_out, into_err])
        self._line.sendmsg([len(asked).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
        self._line.sendall(asked)
        os.close(into_out)
        os.close(into_err)
        said: dict[str, str] = {}

        def read(name: str, handle: int) -> None:
            with open(handle, encoding="utf-8") as pipe:
                said[name] = pipe.read()

        readers = [threading.Thread(target=read, args=pair) for pair in (("out", out), ("err", err))]
        for reader in readers:
            reader.start()
        status = int.from_bytes(_whole(self._line, 4), signed=True)
        for reader in readers:
            reader.join()
        return subprocess.CompletedProcess(arguments, status, said["out"], said["err"])


def _whole(line: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = line.recv(count - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def _serve(path: str) -> None:
    """Fork for every command that is asked for, until nobody asks."""
    for module in _MODULES:
        __import__(module)
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    while True:
        handles = array.array("i", [0, 0])
        size, told, _, _ = line.recvmsg(4, socket.CMSG_SPACE(handles.itemsize * 2))
        if len(size) < 4:
            return
        handles = array.array("i", told[0][2])
        asked = json.loads(_whole(line, int.from_bytes(size)))
        child = os.fork()
        if child == 0:
            line.close()
            _command(asked["arguments"], asked["environment"], asked["folder"], handles[0], handles[1])
        for handle in handles:
            os.close(handle)
        _, status = os.waitpid(child, 0)
        line.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))


def _command(arguments: list[str], environment: dict[str, str], folder: str, out: int, err: int) -> NoReturn:
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["shopfit", *arguments]
    status = 0
    try:
        runpy.run_module("shopfit", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
