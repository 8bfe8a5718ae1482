"""How a run ends: signals, streams and disks that fail, memory that runs out; and thirty random faults."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
from networks import barely
from small_files import SAT, UNSAT, save_network, save_property

import partita
from partita.bab.commands import main as cli
from partita.bab.commands.answer import Answer
from partita.bab.ending import streams
from partita.bab.ending.results import whole, write_atomically
from partita.bab.logs.read import read_log
from partita.bab.search.known import Known
from partita.bab.search.observer import Observer
from partita.bab.search.outcome import Outcome
from partita.kernels.deadline import TimeUp
from partita.problems.errors import BadInput, out_of_memory

ROOT = Path(__file__).resolve().parents[1]


def test_thirty_random_faults(tmp_path):
    """The first thirty of a seed: three of each kind; the script says what they are."""
    out = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "scripts" / "break_runs.py"), "--seed", "11", "--faults", "30"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())["rows"]
    kinds = [row["kind"] for row in rows]
    assert len(rows) == 30 and len(set(kinds)) >= 10 and not any(row["found"] for row in rows)


# ---- the search ends when it is asked to


class Impatient(Observer):
    """Wishes the end after some pieces."""

    def __init__(self, pieces):
        self.pieces, self.seen = pieces, 0

    def branched(self, parents, children):
        self.seen += len(children)

    def wished(self):
        return "somebody asked" if self.seen >= self.pieces else ""


def test_an_observer_ends_the_search_and_the_log_goes_on(tmp_path):
    graph, prop = barely(2)
    whole_run = partita.verify(graph, prop, attack="off", timeout=60)
    assert whole_run.verdict == "unsat" and whole_run.pieces > 12
    ended = partita.verify(graph, prop, attack="off", timeout=60, batch=4, observers=[Impatient(8)], log=tmp_path / "l")
    assert ended.verdict == "unknown" and ended.reason.startswith("somebody asked; ")
    assert f"{ended.pieces} pieces bounded" in ended.reason and 0 < ended.pieces < whole_run.pieces
    assert len(read_log(tmp_path / "l").unsettled) > 0
    assert partita.verify(graph, prop, resume=tmp_path / "l", timeout=60).verdict == "unsat"


def test_what_is_known_of_a_root():
    known = Known()
    assert known.sentence().startswith("while ")
    known.bounded(torch.tensor([0.5, -2.0, -1.0]), torch.tensor([True, False, False]))
    assert known.sentence().endswith("1 of 3 goals closed, the worst bound of the others is -2")
    assert known.stats()["goals"] == 3 and known.stats()["goals closed at the root"] == 1
    known.bounded(torch.tensor([0.5, 2.0]), torch.tensor([True, True]))
    assert known.sentence().endswith("2 of 2 goals closed") and known.stats()["worst"] == math.inf
    outcome = known.outcome(1.0, "unknown", "out of memory")
    assert (outcome.verdict, outcome.seconds) == ("unknown", 1.0) and outcome.reason.startswith("out of memory while ")


def test_a_root_tells_what_it_knows():
    """Of a tree of activation branches, before the search begins."""

    class Heard(Observer):
        told: tuple = ()

        def bounded(self, bounds, closed):
            self.told += ((bounds.clone(), closed.clone()),)

    heard = Heard()
    files = [ROOT / "examples" / name for name in ("digits_relu.onnx", "digits_relu_256_0.14.vnnlib")]
    partita.verify(*files, attack="off", timeout=60, max_pieces=1, observers=[heard])
    first, *_, last = heard.told
    assert len(first[0]) == len(first[1]) == 9 and first[1].equal(first[0] > 0) and not last[1].all()
    assert last[1].sum() > first[1].sum() and last[0].min() > first[0].min()


def test_memory_that_runs_out_anywhere_is_unknown(monkeypatch):
    graph, prop = barely(2)
    for error in (MemoryError(), RuntimeError("std::bad_alloc"), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))):
        for place in (
            "partita.bab.verify.build",
            "partita.bab.verify.first_turn",
            "partita.bab.search.engine.Engine.sort",
        ):

            def fail(*arguments, error=error, **options):
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(place, fail)
                outcome = partita.verify(graph, prop, timeout=60, attack="on" if "turn" in place else "off")
            assert outcome.verdict == "unknown" and outcome.reason.startswith("out of memory while "), place


def test_memory_that_runs_out_before_the_search_is_unknown(tmp_path, capsys, monkeypatch):
    """There is no room for a thread, or for the libraries; no other command has a verdict."""

    def fail(*arguments, **options):
        raise RuntimeError("can't start new thread")

    net, prop, results = save_network(tmp_path / "n.onnx"), save_property(tmp_path / "p.vnnlib", UNSAT), tmp_path / "r"
    with monkeypatch.context() as patch:
        patch.setattr("partita.bab.search.clock.guard", fail)
        assert cli.run(["verify", str(net), str(prop), "--results", str(results)]) == 0
    out, err = capsys.readouterr()
    assert out == "unknown\n" == results.read_text() and err == "partita: unknown: out of memory while the run began\n"
    for argv, code, out in ((["verify", str(net), str(prop)], 0, "unknown\n"), (["supports"], cli.MEMORY, "")):
        codes = []
        monkeypatch.setattr("partita.bab.commands.main.streams.mend", lambda: None)
        monkeypatch.setattr("partita.bab.commands.main.Stops", fail)
        monkeypatch.setattr("partita.bab.commands.main.os._exit", codes.append)
        monkeypatch.setattr("sys.argv", ["partita", *argv])
        cli.main()
        said, err = capsys.readouterr()
        assert codes == [code] and said == out and err.endswith("out of memory\n") and err.count("\n") == 1


@pytest.mark.parametrize("megabytes", [32, 84, 120])
def test_an_address_space_without_room_for_the_libraries(tmp_path, megabytes):
    """OpenBLAS ends the process where it is loaded into so little."""
    net, prop = save_network(tmp_path / "n.onnx"), save_property(tmp_path / "p.vnnlib", UNSAT)
    command = f"ulimit -v {megabytes << 10}; exec {sys.executable} -m partita verify {net} {prop}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "unknown\n")
    assert "out of memory" in done.stderr and "Traceback" not in done.stderr


def test_which_errors_are_lack_of_memory():
    said = ("Failed to allocate memory for requested buffer of size 8", "std::bad_alloc", "can't start new thread")
    assert all(out_of_memory(RuntimeError(text)) for text in said)
    assert out_of_memory(ImportError("libtorch.so: failed to map segment from shared object"))
    assert not out_of_memory(RuntimeError("channels-last memory format")) and not out_of_memory(ValueError("memory"))


# ---- one answer


def answered(answer, monkeypatch, **final):
    """What `and_exit` ends with: the code, in place of the end of this process."""
    codes = []
    monkeypatch.setattr("partita.bab.commands.answer.os._exit", codes.append)
    answer.and_exit("unknown", "interrupted", 130)
    return codes


def test_a_thread_that_ends_the_run_says_what_is_known(tmp_path, capsys, monkeypatch):
    answer = Answer(tmp_path / "r", tmp_path / "s")
    answer.known.stage.text = "bounding the root"
    assert answered(answer, monkeypatch) == [130]
    out, err = capsys.readouterr()
    assert out == "unknown\n" and err == "partita: unknown: interrupted while bounding the root\n"
    summary = json.loads((tmp_path / "s").read_text())
    assert (tmp_path / "r").read_text() == out and summary["stats"]["stage"] == "bounding the root"


def test_a_verdict_that_was_found_is_not_taken_back(tmp_path, capsys, monkeypatch):
    """The log is being closed when the signal comes."""
    answer = Answer(tmp_path / "r", None)
    _, answer.property = barely(3)
    answer.known.finished(Outcome("unsat", "", pieces=3), None)
    assert answered(answer, monkeypatch) == [130]
    assert capsys.readouterr().out == "unsat\n" == (tmp_path / "r").read_text()


def test_only_one_answer_is_given(capsys, monkeypatch):
    answer = Answer(None, None)
    assert answer(Outcome("unsat")) == 0
    assert answered(answer, monkeypatch) == []
    assert capsys.readouterr().out == "unsat\n"


def test_how_long_a_search_is_waited_for():
    answer = Answer(None, None)
    assert answer.asked("interrupted") == 0 and answer.known.wished() == "interrupted"  # nothing would come of it
    answer.known.state = object()
    assert answer.asked("interrupted") > 0


def test_a_place_that_cannot_be_written_to_takes_nothing_from_the_others(tmp_path, capsys):
    answer = Answer(Path("/dev/full"), tmp_path / "s")
    assert answer(Outcome("unsat", "for a reason")) == streams.LOST
    out, err = capsys.readouterr()
    assert out == "unsat\n" and "the verdict unsat could not be written to /dev/full: No space left on device" in err
    assert json.loads((tmp_path / "s").read_text())["verdict"] == "unsat"


# ---- files


def test_files_are_whole_or_absent(tmp_path):
    target = tmp_path / "t.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="gone"), whole(target) as beside:
        beside.write_text("half")
        raise OSError("gone")
    with pytest.raises(OSError, match="No space") as full:
        write_atomically(Path("/dev/full"), "text")
    assert full.value.filename == "/dev/full"
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    link = tmp_path / "link"
    link.symlink_to(target)
    write_atomically(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


def test_a_count_goes_on_without_its_cells(tmp_path, capsys, monkeypatch):
    import pyarrow.parquet as pq

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    net, prop = save_network(tmp_path / "n.onnx"), save_property(tmp_path / "p.vnnlib", SAT)
    assert cli.run(["count", str(net), str(prop), "--out", str(tmp_path / "out")]) == streams.LOST
    out, err = capsys.readouterr()
    assert out == "4\n" and "No space left on device" in err and not list((tmp_path / "out").iterdir())


# ---- the command line as a process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_native_call(tmp_path, number):
    """The main thread never comes back to Python: a sleep in C without the interpreter's lock."""
    script = tmp_path / "slow.py"
    script.write_text(
        "import ctypes, sys, types\n"
        "slow = types.ModuleType('partita.bab.verify')\n"
        "def verify(*a, **k):\n    print('searching', file=sys.stderr, flush=True)\n"
        "    [ctypes.CDLL(None).sleep(60) for _ in range(9)]\n"
        "slow.verify = verify\nsys.modules['partita.bab.verify'] = slow\n"
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from partita.bab.commands.main import main\nmain()\n"
    )
    net, prop = save_network(tmp_path / "n.onnx"), save_property(tmp_path / "p.vnnlib", UNSAT)
    command = [sys.executable, str(script), "verify", str(net), str(prop), "--results", str(tmp_path / "r")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    while "searching" not in child.stderr.readline():
        pass
    begun = time.monotonic()
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, (tmp_path / "r").read_text()) == (128 + number, "unknown\n", "unknown\n")
    assert time.monotonic() - begun < 20 and "Traceback" not in err and " while " in err


def test_commands_that_write_to_nobody(tmp_path):
    """The shell's forms, on commands that import nothing heavy."""
    partita_ = f"{sys.executable} -m partita"
    forms = {
        "supports vnnlib-versions >&-": 0,
        "supports vnnlib-versions | head -0": 0,
        "supports vnnlib-versions >/dev/full": streams.LOST,
        "supports nothing 2>&-": 2,
        "supports nothing 2>/dev/full": 2,
        "--help <&- >&- 2>&-": 0,
    }
    for form, code in forms.items():
        command = f"set -o pipefail; {partita_} {form}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == code, (form, done)
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr, (form, done.stderr)
    assert not list(tmp_path.iterdir())


def test_faults_end_in_a_sentence(capsys, monkeypatch):
    import types

    for error, code, sentence in (
        (KeyError("x"), 70, r"internal error: KeyError: 'x' (tests/test_ends.py, line "),
        (MemoryError(), 71, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "page.html"), 74, "page.html: No space left on device"),
        (BadInput("no"), 2, "no"),
    ):

        def fail(argv, error=error):
            raise error

        broken = types.ModuleType("partita.bab.commands.supports")
        broken.run = fail
        monkeypatch.setitem(sys.modules, "partita.bab.commands.supports", broken)
        assert cli.run(["supports"]) == code
        assert f"partita: {sentence}" in capsys.readouterr().err


COMMANDS = {"bound": ["--relaxation", "ibp", "timeout=0.001"], "count": [], "partition": ["--no-count"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_limit_that_passes_before_anything_is_known(command, tmp_path, capsys):
    """This process is older than the limit."""
    net, prop = save_network(tmp_path / "n.onnx"), save_property(tmp_path / "p.vnnlib", UNSAT)
    limit = [] if command == "bound" else ["--timeout", "0.001"]
    line = [command, str(net), str(prop), *limit, *COMMANDS[command]]
    assert cli.run(line) == 0
    out, err = capsys.readouterr()
    assert out == "timeout\n" and err.count("\n") == 1
    assert err.startswith("partita: the time limit passed while ") and "yet" in err
    assert cli.run([*line, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "timeout" and said["reason"].startswith("the time limit passed while ")


def test_exact_values_that_are_not_found_in_time():
    graph, _ = barely(2)
    box = [0.0] * graph.input_size, [1.0] * graph.input_size
    late = mock.Mock(side_effect=TimeUp)
    with mock.patch("partita.bab.comparing.exact_goal._goal", late), pytest.raises(TimeoutError, match="exact values"):
        partita.partition(graph, box, ["triangle"], count=False, timeout=60)


def test_a_signal_before_the_arguments_are_read(capsys, monkeypatch):
    """Only `verify` has a verdict."""
    for command, said in (("verify", "unknown\n"), ("bound", "")):
        monkeypatch.setattr("partita.bab.commands.main._run", mock.Mock(side_effect=KeyboardInterrupt))
        assert cli.run([command, "n.onnx", "p.vnnlib"]) == 130
        assert capsys.readouterr() == (said, "partita: interrupted\n")


def test_a_stream_keeps_its_first_error():
    class Full:
        def __init__(self):
            self.calls = 0

        def write(self, text):
            self.calls += 1
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            pass

    inner = Full()
    stream = streams.Stream(inner)
    assert stream.write("one") == 3 and stream.write("two") == 3 and inner.calls == 1
    assert streams.code_of(streams.lost(stream)) == streams.LOST
    assert streams.code_of(OSError(errno.EPIPE, "")) == 0 == streams.code_of(None)


def test_no_thread_of_ours_is_left():
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
