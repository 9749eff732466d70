"""Questions and answers between the benchmark and a peer: a line of JSON each.

A peer lives as long as the benchmark, so that importing and compiling are not
timed.  Asked for losses it trains the first steps of seed 0 on images in their
order: a peer whose losses are not LeNet's is not measured.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from bnstudy import data

CHECKED_STEPS = 5


class Peer:
    """A peer's process, from the benchmark's side.

    Parameters
    ----------
    python, module
        The interpreter of the peers' environment, and what it runs.
    folder
        With the four IDX files.
    """

    def __init__(self, python: Path, module: str, folder: Path) -> None:
        command = [str(python), "-m", module, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **question: Any) -> None:
        """Send a question."""
        print(json.dumps(question), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """Wait for the answer to the oldest question.

        Raises
        ------
        RuntimeError
            If the peer has died; its own message is on standard error.
        """
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"{self._process.args[2]} died")  # type: ignore[index]
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()


class Contestant(Protocol):
    """Work that a peer is asked for."""

    def losses(self, norm: str, batch_size: int, steps: int) -> list[float]:
        """Return the losses of seed 0 on images in their order."""

    def rate(self, norm: str, batch_size: int, images: int) -> float:
        """Return training images per second."""


def serve(make: Callable[[data.Dataset], Contestant]) -> None:
    """Answer questions from standard input, about a contestant, until it ends."""
    torch.set_num_threads(1)
    contestant = make(data.load(folder=Path(sys.argv[1])))
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
        for line in sys.stdin:
            question = json.loads(line)
            tell = getattr(contestant, question.pop("tell"))
            print(json.dumps(tell(**question)), file=answers, flush=True)
