"""What a user may choose: a small tree of frozen dataclasses, and a strict loader.

Nothing has to be chosen: every `auto` follows from the network, the property and the machine. A choice comes, from
weak to strong, from the defaults below, a preset or YAML file, and `KEY=VALUE` overrides. Keys are dotted
(`search.batch=256`); the last part alone is enough where only one option ends so (`batch=256`).

Loading is strict: an unknown key is an error that names the nearest valid one, and a value of the wrong type or out
of range is an error that says what is allowed. `configs/default.yaml` spells out the defaults and a test keeps it
equal to them; the other presets in that folder say only where they differ.

The YAML library is imported only when a file is read: most runs need none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..problems.device import NAMES, device_name
from ..problems.effort import Group, as_number, checked
from ..problems.errors import BadInput
from ..problems.given import path_of
from ..relaxations import catalogue
from ..relaxations.names import parse
from ..relaxations.options import nearest
from . import rules
from .effort import Effort

PRESETS = Path(__file__).resolve().parents[1] / "configs"

NO_EFFECT = "has no effect here"  # see `effects`

DEVICES = f"auto, {NAMES}"
Precision = Literal["auto", "float32", "float64"]
Split = Literal["auto", "input", "polyhedral", "activation"]
Backend = Literal["highs", "gurobi", "layers", "first-order"]
Judges = Literal["exact", "onnxruntime"]
Switch = Literal["on", "off"]


def _at_least(minimum: float, default: Any) -> Any:
    """A field whose values must not be below `minimum`."""
    return field(default=default, metadata={"minimum": minimum})


class Checked:
    """A part of the configuration: its values are checked as it is made, whoever makes it."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            value, hint = getattr(self, f.name), hints[f.name]
            if isinstance(hint, type) and issubclass(hint, Checked | Group):
                if not isinstance(value, hint):
                    raise BadInput(f"'{f.name}' of a Config is a {hint.__name__}, not {value!r}")
                continue
            object.__setattr__(self, f.name, _value(value, hint, f, f.name, "of a Config"))


@dataclass(frozen=True)
class BoundingConfig(Checked):
    """How hard the relaxations that optimise try."""

    steps: int = _at_least(0, 5)  # gradient steps on slopes and multipliers
    learning_rate: float = _at_least(0.0, 0.1)
    backend: Backend = "highs"  # of linear programs, and of the mixed-integer programs of `exact`


@dataclass(frozen=True)
class BranchingConfig(Checked):
    """How the next split is chosen."""

    rule: str = "auto"  # one of `rules.choices`
    candidates: int = _at_least(1, 4)  # splits that look-ahead tries


@dataclass(frozen=True)
class SearchConfig(Checked):
    """What the search may use."""

    batch: int = _at_least(0, 0)  # pieces bounded at once; 0: as many as memory holds
    max_pieces: int | None = _at_least(1, None)
    memory_gb: float = _at_least(0.0, 0.0)  # on the device of the search; 0: 3 on a CPU, 60 % of what a GPU has free


@dataclass(frozen=True)
class Config(Checked):
    """Everything that can be chosen for one verification."""

    timeout: float | None = _at_least(0.0, None)  # seconds of wall time, the process's start included
    device: str = "auto"  # or what `problems.device` reads: cpu, cuda, cuda:1
    precision: Precision = "auto"
    seed: int = field(default=0, metadata={"minimum": 0, "maximum": 2**53})
    split: Split = "auto"
    relaxation: Any = "auto"  # what `relaxations.names` reads: crown, m-2, k-relu:k=3; or an `AbstractRelaxation`
    attack: Switch = "on"
    judge: Judges = "exact"  # of witnesses: also the network over the real numbers, or onnxruntime alone
    bounding: BoundingConfig = field(default_factory=BoundingConfig)
    branching: BranchingConfig = field(default_factory=BranchingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    effort: Effort = field(default_factory=Effort)  # for experts: see docs/effort.md


def load_config(source: str | Path | Config | None = None, overrides: Mapping[str, Any] | Iterable[str] = ()) -> Config:
    """A preset, a YAML file or a `Config`, with overrides (a mapping, or `KEY=VALUE` strings) on top.

    Raises `BadInput` for a missing or malformed file, an unknown key, or a value that is not allowed.
    """
    config = source if isinstance(source, Config) else Config()
    if source is not None and not isinstance(source, Config):
        config = _filled(config, _read(source), f"in {source}")
    if not isinstance(overrides, Mapping):
        overrides = dict(_key_value(text) for text in overrides)
    for key, value in overrides.items():
        path = _option(key).split(".")
        nested: Any = value
        for part in reversed(path):
            nested = {part: nested}
        config = _filled(config, nested, "on the command line" if isinstance(value, str) else "among the arguments")
    return config


def presets() -> list[str]:
    """The names of the presets: the files in `configs`, and every rung by its name."""
    return sorted({path.stem for path in PRESETS.glob("*.yaml")} | set(catalogue.ladder()))


@cache
def options() -> tuple[str, ...]:
    """Every option's dotted key, those of the effort apart."""
    return tuple(key for key in _keys(Config()) if not expert(key))


@cache
def efforts() -> tuple[str, ...]:
    """The dotted keys of the numbers that say how hard each part tries, of which experts alone need to know."""
    return tuple(key for key in _keys(Config()) if expert(key))


def expert(key: str) -> bool:
    """Whether a dotted key is in the section of the configuration that is for experts."""
    return key.split(".", 1)[0] == "effort"


def _keys(part: Any, prefix: str = "") -> Iterable[str]:
    for f in fields(part):
        value = getattr(part, f.name)
        if is_dataclass(value):
            yield from _keys(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name


def keys_of(overrides: Mapping[str, Any] | Iterable[str]) -> list[str]:
    """The dotted keys of overrides, as `load_config` takes them."""
    names = overrides if isinstance(overrides, Mapping) else (_key_value(text)[0] for text in overrides)
    return [_option(name) for name in names]


def _option(key: str) -> str:
    """The dotted key that `key` stands for: itself, or the only one that ends with it."""
    if key in options() or key in efforts():
        return key
    if expert(key):
        raise _unknown(key, {name: name for name in efforts()}, "on the command line")
    ending = [option for option in options() if option.endswith("." + key)]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise BadInput(f"the option '{key}' is ambiguous: it may mean {' or '.join(ending)}")
    last = {option.rsplit(".", 1)[-1]: option for option in options()}
    raise _unknown(key, {**last, **{option: option for option in options()}}, "on the command line")


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"'{text}' is not an option; options are written KEY=VALUE, for example attack=off")
    return key, value


def _unknown(key: str, valid: Mapping[str, str], where: str) -> BadInput:
    nearest = difflib.get_close_matches(key, valid, n=1, cutoff=0.0)
    return BadInput(f"unknown option '{key}' {where}; the nearest valid one is '{valid[nearest[0]]}'")


def _read(source: str | Path) -> Mapping[str, Any]:
    """The mapping in a preset or a YAML file."""
    path = path_of("config", source)
    preset = PRESETS / f"{source}.yaml"
    if path.name == str(source) and not path.suffix and preset.is_file():
        path = preset
    elif str(source) in catalogue.ladder() and not path.exists():
        return {"relaxation": str(source)}
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _loader())
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(
            f"the config '{source}' is neither a file nor a preset; the presets are {', '.join(presets())}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the config '{source}' cannot be read: {error}") from None
    except RecursionError:
        raise BadInput(f"the config '{source}' is nested too deeply") from None
    except yaml.YAMLError as error:
        raise BadInput(f"the config '{source}' is not YAML: {' '.join(str(error).split())}") from None
    return {} if content is None else content


@cache
def _loader() -> Any:
    """A loader of plain YAML in which a key that stands twice in a mapping is an error."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # a library without types
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
            return super().construct_mapping(node, deep)

    return Loader


def _filled(part: Any, content: Any, where: str, prefix: str = "") -> Any:
    """The dataclass `part` with the values of the mapping `content`, checked."""
    if not isinstance(content, Mapping):
        what = f"'{prefix[:-1]}'" if prefix else "the configuration"
        raise BadInput(f"{what} {where} must be a mapping of options to values, not {content!r}")
    hints, known = get_type_hints(type(part)), {f.name: f for f in fields(part)}
    changes = {}
    for key, value in content.items():
        if key not in known:
            raise _unknown(prefix + str(key), {prefix + name: prefix + name for name in known}, where)
        current = getattr(part, key)
        if is_dataclass(current):
            changes[key] = _filled(current, value, where, f"{prefix}{key}.")
        else:
            changes[key] = _value(value, hints[key], known[key], prefix + key, where)
    return replace(part, **changes)


def _value(value: Any, hint: Any, f: Field[Any], key: str, where: str) -> Any:
    """`value` as the option's type; strings are read, so that `1e-3` and `off` mean what they say in YAML as well."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if NoneType in kinds and (value is None or value in ("none", "null")):
        return None
    (kind,) = (k for k in kinds if k is not NoneType)
    if kind in (str, Any):
        return READ[key.rpartition(".")[2]](value, key, where)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if isinstance(value, bool) and kind is Switch:
            value = "on" if value else "off"
        if value not in choices:
            raise BadInput(f"'{key}' {where} must be one of {', '.join(choices)}, not {value!r}")
        return value
    if NoneType in kinds and as_number(value, kind) is None:
        what = {int: "a whole number", float: "a number"}[kind]
        raise BadInput(f"'{key}' {where} must be {what} or none, not {value!r}")
    return checked(value, kind, f, key, where)


def _device(value: Any, key: str, where: str) -> str:
    """The name of a device; whether it is there is asked when it is used."""
    name = "auto" if value == "auto" else device_name(value)
    if name is None:
        raise BadInput(f"'{key}' {where} must be one of {DEVICES}, not {value!r}")
    return name


def _relaxation(value: Any, key: str, where: str) -> Any:
    """The name of a relaxation, with or without options, or one that was made in Python."""
    if not isinstance(value, str):
        from ..relaxations.protocol import AbstractRelaxation

        if isinstance(value, AbstractRelaxation):
            return value
    if value == "auto":
        return "auto"
    try:
        return "+".join(str(name) for name in parse(value))
    except BadInput as error:
        choices = ", ".join(catalogue.choices())
        raise BadInput(f"'{key}' {where} must be one of {choices}, not {value!r}: {error}") from None


def _rule(value: Any, key: str, where: str) -> str:
    """The name of a branching rule for trees of the search."""
    choices = rules.choices()
    if value not in choices:
        hint = nearest(str(value), choices)
        raise BadInput(f"'{key}' {where} must be one of {', '.join(choices)}, not {value!r}: the nearest is '{hint}'")
    return str(value)


READ: Mapping[str, Callable[[Any, str, str], Any]] = {"device": _device, "relaxation": _relaxation, "rule": _rule}
