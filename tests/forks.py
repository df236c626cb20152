"""Commands as forks of one process that has imported what they need: as new as a process, without its four seconds.

What a command does is the same but for the seed of hashes, which its forks share, and what Python reads from the
environment when it starts. Tests of these start Python anew. This file is the process that forks, and as a script,
which `Forks.shim` runs, what stands in for a fork: with its streams, signals and exit status. The processes that
`multiprocessing` starts for a command, such as the one that a gateway's engines are forked from, are forks as well.
"""

import array
import fcntl
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import subprocess

_PATIENCE = 1200  # seconds, against hanging
_MOST = 64  # open files that a fork is handed
_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

_MODULES = (
    "shopfit.cli.app",
    "shopfit.curve",
    "shopfit.active_learning",
    "shopfit.onboarding",
    "shopfit.starter",
    "shopfit.evaluation.picture",
    "shopfit.serve.server",
    "shopfit.serve.shown_store",
    "peft",
    "sklearn.linear_model",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.llama.modeling_llama",
)


class Forks:
    """Runs commands. Use it as a context manager.

    Args:
        folder: where its socket and its shim lie.
    """

    def __init__(self, folder: Path) -> None:
        import subprocess

        self._address = str(folder / "forks")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._address)
            listening.listen()
            root = Path(__file__).parents[1]
            path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
            python = self._script(folder / "bin" / "python")
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", str(listening.fileno()), python],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
            )
        self.shim = Path(self._script(folder / "bin" / "shopfit"))
        """A script that runs `shopfit` as a fork, wherever it is started from; `python` beside it runs `python -c`."""

    def _script(self, path: Path) -> str:
        """A script that runs the program of that name as a fork."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" "{self._address}" {path.name} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.terminate()
        self._parent.communicate(timeout=60)

    def run(self, arguments: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run `shopfit` with arguments, in this folder, with an environment."""
        import subprocess
        import threading

        (out, into_out), (err, into_err) = os.pipe(), os.pipe()
        with Path(os.devnull).open() as nothing:
            handles = {0: nothing.fileno(), 1: into_out, 2: into_err}
            line = _ask(self._address, ["shopfit", *arguments], environment, handles)
        os.close(into_out)
        os.close(into_err)
        said: dict[str, str] = {}

        def read(name: str, handle: int) -> None:
            with open(handle, encoding="utf-8") as pipe:
                said[name] = pipe.read()

        readers = [threading.Thread(target=read, args=pair) for pair in (("out", out), ("err", err))]
        for reader in readers:
            reader.start()
        with line:
            line.settimeout(_PATIENCE)
            status = _status(line)
        for reader in readers:
            reader.join()
        return subprocess.CompletedProcess(arguments, status, said["out"], said["err"])


def _ask(address: str, command: list[str], environment: dict[str, str], handles: dict[int, int]) -> socket.socket:
    """Ask for a fork; what is then sent is signals to it, and what comes its status.

    Args:
        address: of the process that forks.
        command: `shopfit` or `python`, with arguments.
        environment: of the fork.
        handles: of open files, by those that the fork shall have for them: its three standard streams at least.
    """
    asked = {
        "command": command,
        "handles": list(handles),
        "environment": environment,
        "folder": str(Path.cwd()),
        "ignored": [number for number in _PASSED_ON if signal.getsignal(number) is signal.SIG_IGN],
    }
    content = json.dumps(asked).encode()
    line = socket.socket(socket.AF_UNIX)
    line.connect(address)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles.values()))]
    line.sendmsg([len(content).to_bytes(4)], rights)
    line.sendall(content)
    return line


def _status(line: socket.socket) -> int:
    return int.from_bytes(_whole(line, 4), signed=True)


def _whole(line: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = line.recv(count - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def _stand_in(address: str, command: list[str]) -> NoReturn:
    """Be a command that a fork runs."""
    opened = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    handles = [handle for handle in opened if handle < 3 or _inherited(handle)]
    line = _ask(address, command, dict(os.environ), {handle: handle for handle in handles})
    for handle in handles:
        if handle > 2:
            os.close(handle)
    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: line.send(bytes([number])))
    status = _status(line)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _inherited(handle: int) -> bool:
    try:
        return os.get_inheritable(handle)
    except OSError:  # what listed them
        return False


def _serve(handle: int, python: str) -> None:
    """Fork for every command that is asked for, until nobody can ask."""
    import gc
    import multiprocessing

    for module in _MODULES:
        __import__(module)
    gc.collect()
    gc.freeze()  # forks that look for garbage would copy all of this
    multiprocessing.set_executable(python)
    listening = socket.socket(fileno=handle)
    minders: set[int] = set()
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        line, _ = listening.accept()
        minder = os.fork()
        if minder == 0:
            listening.close()
            _mind(line)
        line.close()
        minders.add(minder)
        minders = {one for one in minders if os.waitpid(one, os.WNOHANG)[0] == 0}  # its time counts as this one's


def _mind(line: socket.socket) -> NoReturn:
    """Fork a command, pass signals on to it, and tell its exit status."""
    size, told, _, _ = line.recvmsg(4, socket.CMSG_SPACE(array.array("i", [0]).itemsize * _MOST))
    handles = list(array.array("i", told[0][2]))
    asked = json.loads(_whole(line, int.from_bytes(size)))
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _command(asked, handles)
    for handle in handles:
        os.close(handle)
    ended, status = 0, 0
    while not ended:
        ready, _, _ = select.select([line, woken], [], [])
        if woken in ready:
            os.read(woken, 64)
            ended, status = os.waitpid(child, os.WNOHANG)
        elif number := line.recv(1):
            os.kill(child, number[0])
        else:  # whoever asked was killed
            os.kill(child, signal.SIGKILL)
            os._exit(1)
    line.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
    os._exit(0)


def _command(asked: dict[str, Any], handles: list[int]) -> NoReturn:
    import atexit
    import threading
    import traceback

    from shopfit.cli import main

    above = max(256, *asked["handles"])
    handles = [fcntl.fcntl(handle, fcntl.F_DUPFD, above + 1) for handle in handles]  # out of each other's way
    os.closerange(0, above + 1)
    for place, handle in zip(asked["handles"], handles, strict=True):
        os.dup2(handle, place)
        os.close(handle)
    for number in _PASSED_ON:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in asked["ignored"] else default)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    program, *arguments = asked["command"]
    status = 0
    try:
        if program == "python":
            place = arguments.index("-c")  # after options, which were heeded when the forks' parent started
            sys.argv, sys.path[0] = ["-c", *arguments[place + 2 :]], ""
            exec(arguments[place + 1], {"__name__": "__main__"})
        else:
            sys.argv = [program, *arguments]
            main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        _serve(int(sys.argv[1]), sys.argv[2])
    else:
        _stand_in(sys.argv[1], sys.argv[2:])
