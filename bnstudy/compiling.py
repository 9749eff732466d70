"""Compilation of C++ sources of the package, once per source, compiler and processor.

A source is compiled when it is first needed; ``python -m bnstudy.engines.lockstep``
compiles the training kernel beforehand and prints whether that worked.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path

FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-Wno-psabi",
)
SECONDS = 300  # until a compiler that hangs is given up


def cache_folder() -> Path:
    """Return ``$BNSTUDY_CACHE``, or bnstudy's folder in the user's cache."""
    if own := os.environ.get("BNSTUDY_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnstudy"


def compiler() -> str | None:
    """Return the C++ compiler: ``$CXX``, else c++, g++ or clang++; None without one."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    return None


@cache
def compiled(source: Path) -> tuple[ctypes.CDLL | None, str]:
    """Return the library of a C++ source, or None and the reason as a clause.

    The library is kept in the cache under a hash of the source, the headers beside
    it, the options, the compiler's version and the processor.  It is moved there when
    it is complete.  ``$BNSTUDY_KERNEL=off`` rules it out.

    Parameters
    ----------
    source
        The source file; the headers it includes are in the same folder.
    """
    if os.environ.get("BNSTUDY_KERNEL", "") == "off":
        return None, "BNSTUDY_KERNEL=off rules it out"
    program = compiler()
    if program is None:
        return None, "it needs a C++ compiler (c++, g++ or clang++), and none was found"
    try:
        library = cache_folder() / "kernels" / f"{_key(program, source)}.so"
        if not library.exists():
            _compile(program, source, library)
        return ctypes.CDLL(str(library)), ""
    except subprocess.CalledProcessError as error:
        first = next(iter((error.stderr or "").strip().splitlines()), "no message")
        return None, f"{Path(program).name} could not compile it ({first.strip()})"
    except (OSError, RuntimeError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return None, f"it could not be built ({error.__class__.__name__}: {error})"


def _key(program: str, source: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(source.parent.glob("*.[ch]pp")):
        sha.update(path.read_bytes())
    version = _run([program, "--version"]).splitlines()[0]
    for part in (*FLAGS, version, platform.machine(), _processor()):
        sha.update(part.encode() + b"\0")
    return sha.hexdigest()[:16]


def _processor() -> str:
    """Return the model and features of the processor, on which -march=native depends."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    kept = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in text.splitlines() if line.startswith(kept)}))


def _compile(program: str, source: Path, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        made = Path(scratch) / library.name
        _run([program, *FLAGS, "-o", str(made), str(source)])
        os.replace(made, library)  # atomic: another process finds no library or a whole one


def _run(command: list[str]) -> str:
    """Return the output of a compiler, and end it with its own processes if it takes too long."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group: killing the driver alone leaves cc1plus running
    )
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except BaseException:  # Ctrl-C too, which a group of its own does not get
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)
    return output
