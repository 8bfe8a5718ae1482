"""Two runs on one folder at once, many times: `python two_runs.py FOLDER ROUNDS SEED` prints a line of JSON a round.

Processes are forked from this one, which has loaded the libraries, and wait for the same moment; so they begin within a
millisecond. Some rounds kill one of them in the middle, and then a third run takes the log up.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from networks import barely, graph_to_onnx

import partita
from partita.bab.commands import main as cli
from partita.bab.logs.check import check
from partita.bab.logs.read import read_log


def forked(argv: list[str], said: Path, moment: float) -> int:
    """A process that runs a command line at this moment, its standard error in a file."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        errors = io.StringIO()
        time.sleep(max(0.0, moment - time.monotonic()))
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = cli.run(argv)
        said.write_text(errors.getvalue())
    finally:
        os._exit(code)


def main(folder: Path, rounds: int, seed: int) -> None:
    torch.set_num_threads(1)
    chance = random.Random(seed)
    graph, _ = barely(1)
    net, prop = folder / "net.onnx", folder / "prop.vnnlib"
    net.write_bytes(graph_to_onnx(graph))
    lines = [f"(declare-const X_{i} Real)" for i in range(3)] + [f"(declare-const Y_{i} Real)" for i in range(2)]
    lines += [f"(assert (>= X_{i} -1))\n(assert (<= X_{i} 1))" for i in range(3)]
    prop.write_text("\n".join([*lines, "(assert (<= (+ (* 1.0 Y_0) (* 0.5 Y_1)) -100))"]))
    partita.verify(net, prop)  # everything that is imported is
    for number in range(rounds):
        log = folder / f"log {number}"
        new = ["verify", str(net), str(prop), "--log", str(log), "attack=off"]
        again = ["verify", str(net), str(prop), "--resume", str(log)]
        resumes = chance.random() < 0.4
        if resumes:
            assert cli.run([*new, "max_pieces=1"]) == 0
        both = [again, again if chance.random() < 0.5 else new] if resumes else [new, new]
        moment = time.monotonic() + 0.02
        offsets = (0.0, chance.choice((0.0, 0.0, 0.0005, 0.002)))
        files = [folder / f"said {number} {k}" for k in range(2)]
        children = [forked(*one) for one in zip(both, files, (moment + o for o in offsets), strict=True)]
        killed = chance.random() < 0.3
        if killed:
            time.sleep(0.02 + chance.random() * 0.05)
            with contextlib.suppress(ProcessLookupError):
                os.kill(children[0], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        said = [file.read_text() if file.exists() else "" for file in files]
        third = None
        if killed:
            third = os.waitstatus_to_exitcode(
                os.waitpid(forked(again if (log / "header.json").exists() else new, folder / "third", 0.0), 0)[1]
            )
        tree = read_log(log)
        good = check(tree).good and not list(log.glob("*.tmp"))
        print(json.dumps({"codes": codes, "said": said, "killed": killed, "third": third, "good": good}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
