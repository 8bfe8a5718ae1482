"""The configuration's loader: what is allowed, what is refused, and the presets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import pytest
import yaml

from partita.bab import rules
from partita.bab.config import PRESETS, Config, efforts, load_config, options, presets
from partita.problems.errors import BadInput
from partita.relaxations.catalogue import choices, ladder


def flat(mapping, prefix=""):
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_the_default_preset_is_the_dataclasses():
    assert load_config("default") == Config()
    written = yaml.safe_load((PRESETS / "default.yaml").read_text())
    assert list(flat(written)) == list(options())
    assert list(flat(asdict(Config()))) == [*options(), *efforts()]


@pytest.mark.parametrize("name", [*presets(), None])
def test_every_preset_loads(name):
    config = load_config(name)
    assert isinstance(config, Config)
    if name not in (None, "default"):
        assert config != Config()


@pytest.mark.parametrize("name", ladder())
def test_each_rung_has_its_preset(name):
    assert load_config(name).relaxation == name


def test_the_default_preset_says_what_the_relaxation_may_be():
    line = next(line for line in (PRESETS / "default.yaml").read_text().splitlines() if line.startswith("relaxation:"))
    assert line.partition("# ")[2] == ", ".join(choices())
    assert f"  # {', '.join(rules.choices())}\n" in (PRESETS / "default.yaml").read_text()


def test_overrides_beat_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("timeout: 10\nattack: off\nsearch:\n  batch: 64\nbounding: {learning_rate: 1e-3}\n")
    config = load_config(file, ["search.batch=128", "max_pieces=1000", "timeout=none", "rule=babsr"])
    assert (config.timeout, config.attack, config.search.batch, config.search.max_pieces) == (None, "off", 128, 1000)
    assert (config.branching.rule, config.bounding.learning_rate) == ("babsr", 1e-3)
    assert load_config(file, {"attack": True, "seed": 3}) == load_config(file, ["attack=on", "seed=3"])
    assert load_config(None, {"timeout": 5}).timeout == 5.0


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["bacth=3"], "unknown option 'bacth' on the command line; the nearest valid one is 'search.batch'"),
        (["search.bach=3"], "nearest valid one is 'search.batch'"),
        (["relaxtion=ibp"], "nearest valid one is 'relaxation'"),
        (["relaxation=ibpp"], "'relaxation' on the command line must be one of auto, ibp"),
        (["batch=1.5"], "'search.batch' on the command line must be a whole number, not '1.5'"),
        (["batch=-1"], "must be at least 0"),
        (["timeout=soon"], "must be a number or none"),
        (["timeout=inf"], "must be a number or none"),
        (["attack=maybe"], "must be one of on, off"),
        (["attack"], "written KEY=VALUE"),
        (["=3"], "written KEY=VALUE"),
        ({"seed": True}, "'seed' among the arguments must be a whole number, not True"),
        ({"seed": 1.5}, "must be a whole number"),
        ({"device": 3}, "must be one of auto, cpu, cuda"),
    ],
)
def test_refused_overrides(overrides, sentence):
    with pytest.raises(BadInput) as error:
        load_config(None, overrides)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("relaxtion: ibp", "unknown option 'relaxtion' in"),
        ("search: {bach: 3}", "the nearest valid one is 'search.batch'"),
        ("search: 3", "'search' in"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("seed: x", "'seed' in"),
        ("1: 2", "unknown option '1'"),
        ("timeout: 3\nseed: 1\ntimeout: 5", "'timeout' stands twice"),
        ("search: {batch: 1, batch: 2}", "'batch' stands twice"),
        ("search: " + 3000 * "[", "is nested too deeply"),
    ],
)
def test_refused_files(tmp_path, text, sentence):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as error:
        load_config(file)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_lists_the_presets(tmp_path):
    for source in (tmp_path / "none.yaml", "competitoin", tmp_path):
        with pytest.raises(BadInput, match="alpha-crown, competition, crown"):
            load_config(source)


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "empty.yaml") == Config()


def test_defaults_need_no_yaml_library():
    code = "import sys; from partita.bab.config import load_config; load_config(None, ['attack=off'])"
    assert subprocess.run([sys.executable, "-c", code + "; assert 'yaml' not in sys.modules"]).returncode == 0
