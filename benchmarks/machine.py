"""The machine: whether it can measure, and what it is (never where anything lies on it)."""

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Final

_PACKAGES: Final = {"wrk": "wrk", "nginx": "nginx-light", "taskset": "util-linux"}
# Debian keeps nginx where only root's PATH looks.
_SEARCHED: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class UnfitError(Exception):
    """This machine cannot measure; the message says what to do about it."""


def tool(name: str) -> str:
    """Where a program is.

    Raises:
        UnfitError: if it is not installed.
    """
    found = shutil.which(name, path=_SEARCHED)
    if found is None:
        raise UnfitError(f"{name} is missing.")
    return found


def check() -> None:
    """See that everything needed is there.

    Raises:
        UnfitError: naming the packages to install, or what else is missing.
    """
    if not sys.platform.startswith("linux"):
        raise UnfitError("The benchmark reads /proc and pins processes to cores: it needs Linux.")
    missing = [name for name in _PACKAGES if shutil.which(name, path=_SEARCHED) is None]
    if missing:
        packages = " ".join(_PACKAGES[name] for name in missing)
        raise UnfitError(f"Missing: {', '.join(missing)}. On Debian or Ubuntu: apt-get install {packages}")
    if len(os.sched_getaffinity(0)) < 2:
        raise UnfitError("The benchmark needs two cores: one for the gateway, one for the load.")


def cores() -> tuple[int, int]:
    """Two cores that we may use: for the load, and for what is measured."""
    load, measured, *_ = sorted(os.sched_getaffinity(0))
    return load, measured


def description() -> dict[str, str | int | float]:
    """What a reader needs to judge the figures."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "load_average": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
