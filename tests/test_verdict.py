"""Verdicts are their words for whoever compares or prints them; what ends a search is a type, not a sentence."""

from __future__ import annotations

import ast
import copy
import json
import pickle

import numpy as np
import pytest
from networks import random_graph, random_property
from search import engine
from test_architecture import ROOT

import partita
from partita.bab.search.observer import Observer
from partita.bab.search.outcome import Outcome
from partita.bab.search.verdict import TIME_IS_UP, Cause, End, Verdict

WORDS = {"unsat": Verdict.HOLDS, "sat": Verdict.VIOLATED, "unknown": Verdict.UNKNOWN, "timeout": Verdict.TIMEOUT}


@pytest.mark.parametrize("word", WORDS)
def test_a_verdict_is_its_word(word):
    verdict = WORDS[word]
    assert verdict == word and word == verdict and verdict != word + " " and {word: 1}[verdict] == 1
    assert f"{verdict}" == str(verdict) == word and repr(verdict) == repr(word) and verdict + "\n" == word + "\n"
    assert json.dumps({"verdict": verdict}) == json.dumps({"verdict": word})
    for other in (Verdict(word), copy.deepcopy(verdict), pickle.loads(pickle.dumps(verdict))):
        assert other is verdict
    assert verdict.decided is (word in ("sat", "unsat"))


def test_every_verdict_has_a_sentence_of_its_own():
    assert set(Verdict) == set(WORDS.values()) and len({v.sentence for v in Verdict}) == len(Verdict)
    assert all(len(v.sentence.split()) > 5 for v in Verdict)


def test_only_time_makes_a_timeout():
    assert TIME_IS_UP.verdict is Verdict.TIMEOUT
    assert {End(cause, "timeout").verdict for cause in set(Cause) - {Cause.TIME}} == {Verdict.UNKNOWN}


def test_users_get_the_enumeration():
    graph = random_graph(3, "mlp", inputs=2, width=4, depth=1)
    outcome = partita.verify(graph, random_property(3, graph, radius=1e-3), attack="off")
    assert isinstance(outcome, Outcome) and isinstance(outcome.verdict, Verdict)


class Wishing(Observer):
    """Wishes the end in the word of a verdict."""

    def wished(self) -> str:
        return "timeout"


def test_a_wish_in_the_words_of_a_verdict_is_a_wish():
    graph = random_graph(5, "mlp", inputs=17, width=8, depth=2)
    prop = random_property(5, graph, radius=0.8, margin=0.5)
    outcome = partita.verify(graph, prop, attack="off", observers=[Wishing()])
    assert outcome.verdict is Verdict.UNKNOWN and outcome.reason.startswith("timeout; ")
    made = engine(graph, prop, max_pieces=1)
    assert made.run() is Verdict.UNKNOWN and made.schedule.end.cause is Cause.PIECES
    made = engine(graph, prop, deadline=-np.inf)
    assert made.run() is Verdict.TIMEOUT and made.schedule.end is TIME_IS_UP


def test_no_sentence_is_compared():
    """No code asks what a reason says: not with ==, nor with `in`."""
    for folder in ("kernels", "problems", "relaxations", "bab"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Compare):
                    continue
                texts = [side for side in (node.left, *node.comparators) if isinstance(side, ast.Constant)]
                names = {getattr(side, "attr", getattr(side, "id", "")) for side in (node.left, *node.comparators)}
                said = any(isinstance(text.value, str) and text.value for text in texts)
                assert not (said and names & {"reason", "why", "sentence"}), f"{path}:{node.lineno}"
