"""What the system knows of this process's memory: how much it has, how much it may have, and how to give some back."""

import ctypes
import os
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # pragma: no cover - Windows
    resource = None  # type: ignore[assignment]

SHARE: Final = 0.8
"""The part of what is allowed that is used: the kernel's buffers for our sockets count as well, and so do others."""
NO_LIMIT_BYTES: Final = 1 << 60
"""From here on a limit is none: version 1 of control groups says 2^63 less a page."""
CALM_MMAP_BYTES: Final = 16 << 20
CALM_TRIM_BYTES: Final = 64 << 20
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Source: mallopt(3)."""


def used_bytes() -> int:
    """Memory that this process has, or its addresses where those are limited; 0 where the system does not tell."""
    text = _text(Path("/proc/self/statm")).split()
    return int(text[0 if _addresses() else 1]) * os.sysconf("SC_PAGESIZE") if text else 0


def allowed_bytes(workers: int, root: Path = Path("/")) -> int:
    """What one of `workers` processes may use: four fifths of the tightest limit, 0 without any.

    A container's limit is for all of them, the one on addresses (RLIMIT_AS) for each. RLIMIT_RSS has no effect on
    Linux since 2.4.30 and is not asked.
    """
    limits = (container_bytes(root) // workers, _addresses())
    return int(min((limit for limit in limits if limit), default=0) * SHARE)


def container_bytes(root: Path = Path("/")) -> int:
    """The least memory limit of the control groups that this process is in, 0 if there is none.

    Source: cgroups(7), and the kernel's cgroup-v2 (memory.max) and cgroup-v1/memory (memory.limit_in_bytes) pages.
    """
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # Within a container the path may be the host's, which is not there: the mount's own root is looked at, too.
        inner = Path(path.lstrip("/"))
        limits += [_limit(folder / each / name) for each in (inner, *inner.parents)]
    return min((limit for limit in limits if 0 < limit < NO_LIMIT_BYTES), default=0)


def calm_allocator() -> None:
    """Have the allocator keep what the usual large bodies need and no more (glibc; elsewhere nothing happens).

    By itself it moves its own bounds with what is freed, and it reserves 64 MiB of addresses for every thread, which
    few threads need that take turns anyway. With these bounds images of 2 MB, 32 at a time, cost 2.5 ms of CPU each
    (3.1 without; 3.8 with 1 MiB and 4 MiB, where the pages of every copy come from the system anew), and for Ollama one
    at a time 4.8 ms (8.1, 8.9). What is kept goes back by `trim` once many bodies are gone. Comes before the first
    thread.
    """
    libc = _glibc()
    if libc:
        libc.mallopt(M_MMAP_THRESHOLD, CALM_MMAP_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, CALM_TRIM_BYTES)
        libc.mallopt(M_ARENA_MAX, 1)


def trim() -> None:
    """Give free memory back to the system: some milliseconds, by what there is (glibc; elsewhere nothing happens)."""
    libc = _glibc()
    if libc:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # pragma: no cover - Windows has no such library
        return None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def _addresses() -> int:
    """How many bytes of addresses this process may have, 0 without a limit."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else 0
    return soft if 0 < soft < NO_LIMIT_BYTES else 0


def _limit(file: Path) -> int:
    text = _text(file).strip()
    return int(text) if text.isdecimal() else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
