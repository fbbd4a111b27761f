"""What is wrong with a command line or a config, in one line that says what would be right."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r2r.config import Config, keys_of
from r2r.errors import ConfigError, must_be

ADDED = ("sweep", "experiment", "launcher")  # groups that the defaults have no choice of: +sweep=
KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}


@contextlib.contextmanager
def one_line_errors(conf: Path) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise about a config into ConfigError."""
    try:
        yield
    except MissingConfigException as error:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        plugin = group.startswith("hydra/")  # a sweeper or launcher, of a package of its own
        wanted = "one that is installed here" if plugin else f"a file in conf/{group}"
        raise must_be(group or "config", wanted, name, error.options or ()) from error
    except OverrideParseException as error:
        raise must_be("command line", "key=value", error.override) from error
    except ConfigCompositionException as error:
        raise _unknown_key(str(error), conf) from error
    except OmegaConfBaseException as error:
        key = error.full_key or "config"
        if error.key is not None and "not in" in str(error):
            raise _unknown_key(f"'{key}'", conf) from error
        problem = str(error).splitlines()[0]
        if kind := re.match(r"Value '(.*?)' .*(?:converted to|not a valid) (\w+)", problem):
            raise must_be(key, KINDS.get(kind[2], kind[2]), kind[1]) from error
        _, by_us, own = problem.partition("ConfigError raised while resolving interpolation: ")
        raise ConfigError(own if by_us else f"{key}: {problem}") from error
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _unknown_key(message: str, conf: Path) -> ConfigError:
    if twice := re.match(r"Multiple values for ([\w/]+)\.", message):
        return must_be("command line", f"key=value with +{twice[1]}=... once", "it twice")
    several = re.search(r"Ambiguous value for argument '([^=]+)=(.*?)'\n", message)
    if several:
        key, values = several.groups()
        many = get_origin(keys_of(Config).get(key)) is list
        one = f"a list, {key}=[{values}]" if many else "one value"
        return must_be(key, f"{one}, or have -m before it for a sweep", values)
    found = re.search(r"'([\w.@/]+)'", message)
    if not found:
        return ConfigError(" ".join(message.split()))
    if options := _options_with(found[1], conf):
        top = re.split("[./]", found[1])[0]
        near = [f"{top}={option} {found[1]}=..." for option in options]
        return must_be("key", f"one that the chosen {top} has", found[1], near=near)
    group, _, name = found[1].rpartition(".")
    wanted, near = f"one of {group or 'the config'}'s keys", [] if group else _elsewhere(name)
    return must_be("key", wanted, name, _keys(group, conf), near)


def _options_with(key: str, conf: Path) -> list[str]:
    """The options of a group that have ``key``: of ``policy`` for ``policy.every`` and
    ``policy/accept``, of ``benchmark`` for ``benchmark.data_files.gsm8k``."""
    top, *path = re.split("[./]", key)
    found = []
    for file in sorted((conf / top).glob("*.yaml")) if path else []:
        inner: Any = _read(file)
        for each in inner.get("defaults", []):
            if isinstance(each, dict):
                inner |= {
                    name: _read(conf / top / name / f"{of}.yaml") for name, of in each.items()
                }
        for name in path:
            inner = inner.get(name, MISSING) if isinstance(inner, dict) else MISSING
        found += [] if inner is MISSING else [file.stem]
    return found


def _read(file: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(file))


def options_are_words(overrides: Sequence[str], conf: Path) -> None:
    """Raises ConfigError for ``pair=1``, which Hydra answers with a fault; for a line that cannot
    be parsed, what Hydra raises."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for override in OverridesParser.create().parse_overrides(list(overrides)):
        group = conf / override.key_or_group
        if override.is_sweep_override() or override.is_delete() or not group.is_dir():
            continue
        if not isinstance(value := override.value(), str | list):
            name, options = override.key_or_group, (path.stem for path in group.glob("*.yaml"))
            raise must_be(name, f"a file in conf/{name}", value, options)


def _elsewhere(name: str) -> list[str]:
    """``trainer.lr`` for ``lr``: where the config has a key of that name; the nearest group of
    ``ADDED`` else."""
    name = name.replace("-", "_")
    at_top = "." not in name and [f"+{group}" for group in get_close_matches(name, ADDED, n=1)]
    found = [key for key in keys_of(Config) if f".{key}".endswith(f".{name}")]
    return at_top or sorted(found, key=lambda key: key.count("."))[:3]


def not_a_flag(flag: str, arguments: list[str], conf: Path) -> ConfigError:
    """For ``--threshold 0.1``: that it is ``threshold=0.1``."""
    given, _, value = flag.lstrip("-").partition("=")
    if not value:
        after = [*arguments[arguments.index(flag) + 1 :], ""][0]
        value = "true" if not after or "=" in after or after.startswith("-") else after
    name = given.replace("-", "_")
    meant = [name] if name in keys_of(Config) else _elsewhere(name)
    meant = meant or get_close_matches(name, [*_keys("", conf), *keys_of(Config)], n=1)
    near = [f"{key}={value}" for key in meant]
    return must_be("command line", "key=value (--help shows the keys)", flag, near=near)


def _keys(group: str, conf: Path) -> list[str]:
    """The keys below ``group``, from the schema, or where they differ by option, from all files."""
    if group == "benchmark.data_files":
        files = (_read(path).get("data_files") for path in (conf / "benchmark").glob("*.yaml"))
        return sorted({key for each in files for key in each or ()})
    if group.split(".")[0] in ("router", "policy"):
        folder = conf.joinpath(*group.split("."))
        loaded = [OmegaConf.load(path) for path in sorted(folder.glob("*.yaml"))]
        own = ("_target_", "defaults", "name")  # no options
        return sorted({str(key) for each in loaded for key in each if key not in own})
    schema: Any = Config
    for part in filter(None, group.split(".")):
        kinds = {f.name: f.default_factory for f in dataclasses.fields(schema)}
        schema = kinds.get(part)
        if not dataclasses.is_dataclass(schema):
            return []
    return [f.name for f in dataclasses.fields(schema)]
