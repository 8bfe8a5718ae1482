"""Names of relaxations: what is read, what is written back, what is refused and how."""

from __future__ import annotations

import pytest

from partita.bab.config import load_config
from partita.problems.errors import BadInput
from partita.relaxations.catalogue import ladder
from partita.relaxations.names import parse


@pytest.mark.parametrize("name", ladder())
def test_every_rung_is_read_and_written_back(name):
    (found,) = parse(name)
    assert str(found) == name == found.word
    assert set(found.options) == set(found.rung.options)


@pytest.mark.parametrize(
    ("text", "written", "number", "option"),
    (
        ("k-relu:k=3", "k-relu:k=3", 0, ("k", 3)),
        ("k-relu:k=2,tighten=on", "k-relu:tighten=on", 0, ("tighten", "on")),
        ("m-12", "m-12", 12, ("groups", "all")),
        ("p-3:patterns=64", "p-3:patterns=64", 3, ("patterns", 64)),
        ("prima:groups=disjoint", "prima:groups=disjoint", 0, ("k", 3)),
    ),
)
def test_options_have_types_and_defaults(text, written, number, option):
    (found,) = parse(text)
    assert (str(found), found.number, found.options[option[0]]) == (written, number, option[1])
    assert parse(str(found)) == (found,)


def test_several_names_are_an_intersection():
    assert [n.rung.name for n in parse("triangle + prima:k=2+m-1")] == ["triangle", "prima", "m"]


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("crwon", "no relaxation 'crwon'; the nearest is 'crown'"),
        ("m", "no relaxation 'm'; the nearest is 'm-"),
        ("m-0", "no relaxation 'm-0'"),
        ("p-x", "no relaxation 'p-x'"),
        ("", "no relaxation ''"),
        ("triangle+", "no relaxation ''"),
        ("k-relu:K=3", "no option 'K'; the nearest is 'k'"),
        ("k-relu:k", "'k' in relaxation 'k-relu:k' is not an option"),
        ("k-relu:k=three", "a whole number of at least 1 and at most 5, not 'three'"),
        ("k-relu:k=9", "at most 5, not '9'"),
        ("k-relu:k=-1", "a whole number"),
        ("triangle:tighten=yes", "must be one of off, on, not 'yes'"),
        ("crown:k=1", "'crown' takes no options"),
    ),
)
def test_what_is_refused(text, words):
    with pytest.raises(BadInput) as refused:
        parse(text)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_configuration_keeps_the_name():
    assert load_config(None, {"relaxation": "k-relu:k=2,tighten=on"}).relaxation == "k-relu:tighten=on"
    assert load_config(None, ["relaxation=triangle+m-1"]).relaxation == "triangle+m-1"
    with pytest.raises(BadInput, match=r"must be one of auto, ibp.*the nearest is 'triangle'"):
        load_config(None, ["relaxation=triangel"])
    with pytest.raises(BadInput, match="must be one of auto"):
        load_config(None, {"relaxation": 3})


def test_names_cost_no_import(tmp_path):
    import subprocess
    import sys

    code = "import sys, partita.relaxations.names; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "numpy" not in said.stdout.split() and "torch" not in said.stdout.split()
