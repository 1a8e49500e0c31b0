"""Names of runs, which are also the names of their folders: short, and unique within a sweep."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from mdlm_jax.build.objective import objective_label
from mdlm_jax.config import config_hash, flatten, to_json
from mdlm_jax.configs.base import KEYS
from mdlm_jax.sweeps.places import LONGEST

SHORT = {"train.batch_size": "batch", "data.sequence_length": "length"}


def run_id(config: ConfigDict) -> str:
    """The name of one run: objective, budget or steps, unique tokens if limited, size, peak learning rate, seed."""
    spent = f"{config.budget:g}".replace("e+0", "e").replace("e+", "e") if config.budget else f"{config.steps}steps"
    return f"{objective_label(config)}-{spent}{_of_all_lengths(config)}"


def trunk_id(config: ConfigDict) -> str:
    """The name of the trunk of runs that differ in length."""
    return f"trunk-{objective_label(config)}{_of_all_lengths(config)}"


def _of_all_lengths(config: ConfigDict) -> str:
    unique = f"-unique{config.data.unique_tokens}" if config.data.unique_tokens else ""
    return f"{unique}-{size_name(config)}-lr{config.optim.lr:g}-seed{config.seed}"


def size_name(config: ConfigDict) -> str:
    """The `size` of a result: the name of the size, or layers x width."""
    return _safe(config.model.size) or f"{config.model.layers}x{config.model.width}"


def run_ids(configs: Sequence[ConfigDict]) -> list[str]:
    """The names of the runs of one grid.

    Runs with the same `run_id` get a suffix with the keys in which they differ, such as `-schedule_cosine`. Only equal
    configs have equal names.
    """
    return _distinct([run_id(config) for config in configs], configs)


def trunk_ids(configs: Sequence[ConfigDict]) -> list[str]:
    """The names of the trunks of one grid, as `run_ids`."""
    return _distinct([trunk_id(config) for config in configs], configs)


def _distinct(names: list[str], configs: Sequence[ConfigDict]) -> list[str]:
    same = defaultdict(list)
    for index, name in enumerate(names):
        same[name].append(index)
    for indices in same.values():
        if len(indices) > 1:
            for index, suffix in zip(indices, _suffixes([dict(flatten(configs[i])) for i in indices]), strict=True):
                names[index] += suffix
    count = Counter(names)
    return [
        name if count[name] == 1 and len(name.encode()) <= LONGEST else _cut(name, config)
        for name, config in zip(names, configs, strict=True)
    ]


def variants(configs: Sequence[ConfigDict]) -> list[str]:
    """The objective of each run, with a suffix for keys that vary other than budget, size, learning rate and seed."""
    alike = []
    for config in configs:
        copy = config.copy_and_resolve_references()
        copy.optim.lr, copy.seed = 1.0, 0
        alike.append(copy)
    distinct = {to_json(config): config for config in alike}
    suffix = {
        text: name.removeprefix(run_id(config))
        for (text, config), name in zip(distinct.items(), run_ids(list(distinct.values())), strict=True)
    }
    return [objective_label(config) + suffix[to_json(config)] for config in alike]


def _suffixes(values: Sequence[dict[str, Any]]) -> list[str]:
    varying = [key for key in KEYS if len({repr(mine.get(key)) for mine in values}) > 1]
    return ["".join(f"-{_shown(key, mine.get(key))}" for key in varying) for mine in values]


def _shown(key: str, value: Any) -> str:
    """One key with its value, safe in a file name: `batch32`, `schedule_cosine`, `qk_norm`, `no_qk_norm`."""
    section, _, leaf = key.rpartition(".")
    alone = [other.rpartition(".")[2] for other in KEYS].count(leaf) == 1
    word = SHORT.get(key, leaf if alone or not section else f"{section}_{leaf}")
    if isinstance(value, bool):
        return word if value else f"no_{word}"
    if isinstance(value, str):
        return f"{word}_{_safe(value) or 'empty'}"
    return f"{word}{value!r}".replace("e+", "e")


def _safe(text: str) -> str:
    """A text with every character that is unsafe in some file system replaced by -."""
    return re.sub("[^A-Za-z0-9._]+", "-", text)


def _cut(name: str, config: ConfigDict) -> str:
    """A shortened name that the config's hash makes unique."""
    return f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}-{config_hash(config)}"
