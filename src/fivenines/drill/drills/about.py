"""What took part in a drill: versions, and the machine."""

import functools
import os
import platform
import re
import subprocess
from pathlib import Path

from fivenines import __version__
from fivenines.traffic.edge import find_haproxy

__all__ = ["about_machine", "versions"]


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of what takes part, as far as they are installed."""
    found = {"fivenines": __version__, "python": platform.python_version(), "kernel": platform.release()}
    for name, command in {"etcd": ["etcd", "--version"], "haproxy": [str(find_haproxy() or "haproxy"), "-v"]}.items():
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        if number := re.search(r"\d+\.\d+\S*", said):
            found[name] = number[0]
    return found


@functools.cache
def about_machine() -> dict[str, str]:
    """Say what kind of machine this is; nothing that would tell whose."""
    found = {"system": platform.system(), "architecture": platform.machine(), "cores": str(os.cpu_count() or 0)}
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory_gb"] = f"{memory / 1e9:.1f}"
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if model:
            found["processor"] = model[1].strip()
    except (OSError, ValueError):
        pass
    return found
