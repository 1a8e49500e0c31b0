"""Thousands of damaged files: each opens, or gives one line with its name; none takes much memory."""

import json
import pathlib
import resource
import struct
import tracemalloc

import numpy as np
import pytest
import tokenizers

from mdlm_jax.errors import UserError
from mdlm_jax.weights.source import open_source
from mdlm_jax.weights.text import open_text
from tests.weights import models
from tests.weights.test_gguf import SIZE, byte_pairs, write_gguf

pytestmark = pytest.mark.slow

SLACK = 2**19  # bytes that Python itself takes for errors and small objects
ADDRESSES = 2**27  # bytes that the process may reserve, by libraries that Python does not see too
EXTREMES = [0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
ODD = [
    None,
    True,
    False,
    -1,
    0,
    1,
    0.5,
    1e300,
    -1e300,
    10**30,
    "",
    "x",
    "\n",
    [],
    [0],
    {},
    {"a": 1},
    ["full_attention"] * 3,
]


def mutated(whole: bytes, generator: np.random.Generator, head: int) -> bytes:
    """One to three damages within the first `head` bytes."""
    content = bytearray(whole)
    for _ in range(generator.integers(1, 4)):
        at = int(generator.integers(0, min(head, len(content)) or 1))
        kind = generator.integers(0, 7)
        if kind == 0:
            content[at : at + 1] = bytes([generator.integers(0, 256)])
        elif kind == 1:
            del content[at:]
        elif kind == 2:
            del content[at : at + int(generator.integers(1, 40))]
        elif kind == 3:
            content[at:at] = generator.integers(0, 256, generator.integers(1, 40), np.uint8).tobytes()
        elif kind == 4:
            content[at : at + 8] = struct.pack("<Q", EXTREMES[generator.integers(len(EXTREMES))])
        elif kind == 5:
            content[at : at + 4] = struct.pack("<I", EXTREMES[generator.integers(len(EXTREMES))] % 2**32)
        else:
            content[at:at] = content[at : at + int(generator.integers(1, 60))]
    return bytes(content)


def with_odd_value(value, generator):
    """The same JSON with one value, key or element replaced."""
    value = json.loads(json.dumps(value))
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        if not len(keys):
            return value
        key = keys[int(generator.integers(len(keys)))]
        if isinstance(holder[key], dict | list) and holder[key] and generator.random() < 0.7:
            holder = holder[key]
            continue
        if isinstance(holder, dict) and generator.random() < 0.2:
            del holder[key]
        else:
            holder[key] = ODD[generator.integers(len(ODD))]
        return value


def attempt(path, size) -> bool:
    """Whether it opens; anything but a line of one's own is a failure of the test."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        source = open_source(path)
        for tensor in source.tensors.values():
            tensor.read()
        if "tokenizer.json" in source.files:
            text = open_text(source)
            text.decode(text.encode("a b  12\n"))
        opened = True
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error), error
        opened = False
    grown = tracemalloc.get_traced_memory()[1] - before
    assert grown < 2 * size + SLACK, f"{grown} bytes for a file of {size}"
    return opened


@pytest.fixture(autouse=True)
def traced():
    """Python's own allocations are counted; a library that reserves what a header claims fails at once."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESSES, before[1]))
    tracemalloc.start()
    yield
    tracemalloc.stop()
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def folder(tmp_path):
    """Two shards with their index, a configuration and a tokenizer."""
    config = models.LLAMA | {"vocab_size": 300, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    tensors = models.random_tensors(config)
    names = list(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        models.write_file(tmp_path / file, {name: tensors[name] for name in part})
    where = {name: file for file, part in parts.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    (tmp_path / "tokenizer.json").write_text(model.to_str())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "a"}, "chat_template": "x"}))
    assert attempt(tmp_path, size_of(tmp_path))
    return tmp_path


def size_of(folder) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("a.safetensors", 1200),
        ("model.safetensors.index.json", 500),
        ("config.json", 500),
        ("tokenizer.json", 300),
        ("tokenizer_config.json", 100),
    ],
)
def test_damaged_bytes(folder, name, count):
    generator, whole = np.random.default_rng(6), (folder / name).read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little") if name.endswith(".safetensors") else len(whole)
    refused = 0
    for _ in range(count):
        (folder / name).write_bytes(mutated(whole, generator, head))
        refused += not attempt(folder, size_of(folder))
    assert refused > count / 3


@pytest.mark.parametrize("name", ["a.safetensors", "model.safetensors.index.json", "config.json", "tokenizer.json"])
def test_odd_values(folder, name):
    """Headers and settings that are valid JSON with one odd value."""
    generator, whole = np.random.default_rng(7), (folder / name).read_bytes()
    shard = name.endswith(".safetensors")
    end = 8 + int.from_bytes(whole[:8], "little") if shard else len(whole)
    values = json.loads(whole[8 * shard : end])
    for _ in range(500):
        text = json.dumps(with_odd_value(values, generator)).encode()
        changed = struct.pack("<Q", len(text)) + text + whole[end:] if shard else text
        (folder / name).write_bytes(changed)
        attempt(folder, size_of(folder))


def test_damaged_gguf(tmp_path):
    tokens, keys = byte_pairs("llama-bpe")
    config = SIZE | {"vocab_size": len(tokens), "tie_word_embeddings": True, "num_hidden_layers": 1}
    tensors = {name: value for name, value in models.random_tensors(config).items() if name != "lm_head.weight"}
    path = write_gguf(tmp_path / "model.gguf", config, tensors, keys=keys)
    whole, generator = path.read_bytes(), np.random.default_rng(8)
    head = whole.index(b"blk.0.ffn_down.weight") + 400
    assert attempt(path, len(whole))
    refused = 0
    for _ in range(1000):
        damaged = mutated(whole, generator, head)
        path.write_bytes(damaged)
        refused += not attempt(path, len(damaged))
    assert refused > 350
