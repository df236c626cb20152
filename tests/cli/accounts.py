"""Running a command as a user that no account knows, or as one that may not write what is read-only."""

import shutil
import subprocess
import sys

import pytest

UID = 1000680000  # OpenShift's first
# reading stays allowed: the Python that runs this test may lie where only root can read
_UNKNOWN = [f"--reuid={UID}", "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
_BOUND = ["--bounding-set=-dac_override"]  # root, without its right to write what is read-only


def _setpriv(*options: str) -> list[str]:
    """What to put before a command; skips the test where this machine or this user cannot."""
    command = ["setpriv", *options, "--"]
    if shutil.which("setpriv") is None or subprocess.run([*command, sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("needs setpriv, and root to run it")
    return command


def unknown_user() -> list[str]:
    """Before a command: it runs as `UID`, of group root, as containers on OpenShift do."""
    return _setpriv(*_UNKNOWN)


def held_to_modes() -> list[str]:
    """Before a command: what is read-only by its mode cannot be written, not even by root."""
    return _setpriv(*_BOUND)
