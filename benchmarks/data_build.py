"""`mdlm-jax data build` of one document of 20 MB against another checkout: seconds, and equal tokens.

    python benchmarks/data_build.py CHECKOUT [ROUNDS]

The document is the text of ../shared/data/wikitext-2 and english_novels, the tokenizer GPT-2's. Both checkouts build it
with all cores, in turns. Writes results/data_build.json.
"""

import hashlib
import json
import lzma
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"
CHARACTERS = 20_000_000


def corpus(folder: pathlib.Path) -> int:
    """Writes one document, without the empty lines that separate documents, and returns its characters."""
    text = (DATA / "wikitext-2" / "train.txt").read_text(encoding="utf-8")
    text += lzma.decompress((DATA / "english_novels" / "novels.train.txt.xz").read_bytes()).decode()
    lines = [line for line in text.replace("\f", " ").split("\n") if line.strip()]
    text = "\n".join(lines)[:CHARACTERS]
    (folder / "train.txt").write_text(text, encoding="utf-8")
    (folder / "valid.txt").write_text(text[:100_000], encoding="utf-8")
    return len(text)


def build(checkout: pathlib.Path, folder: pathlib.Path, out: pathlib.Path) -> float:
    """Wall seconds of the command."""
    words = [sys.executable, "-m", "mdlm_jax" if (checkout / "mdlm_jax" / "__main__.py").exists() else "mdlm_jax.cli"]
    words += ["data", "build", "--source", "text", "--path", str(folder / "train.txt"), "--out", str(out)]
    words += ["--validation-path", str(folder / "valid.txt"), "--tokenizer", str(DATA / "tokenizers" / "gpt2")]
    words += ["--workers", str(len(os.sched_getaffinity(0)))]
    begun = time.perf_counter()
    subprocess.run(words, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True)
    return time.perf_counter() - begun


def shards(folder: pathlib.Path) -> dict[str, str]:
    """Name -> SHA-256 of each shard."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*array_record*"))}


def main(checkout: pathlib.Path, rounds: int) -> None:
    from mdlm_jax.bench.suite import machine
    from mdlm_jax.files import write_whole

    both, turns = {"ours": ROOT, "older": checkout}, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        characters = corpus(folder)
        for turn in range(rounds):
            turns.append({name: build(path, folder, folder / f"{name}-{turn}") for name, path in both.items()})
            built = [shards(folder / f"{name}-{turn}") for name in both]
            if not built[0] or built[0] != built[1]:
                raise SystemExit(f"the shards differ: {built}")
    found = {
        "command": f"python benchmarks/data_build.py CHECKOUT {rounds}",
        "machine": machine(),
        "characters": characters,
        "older_over_ours": statistics.median(turn["older"] / turn["ours"] for turn in turns),
        "turns": turns,
    }
    write_whole(RESULTS / "data_build.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve(), int((sys.argv[2:] or ["3"])[0]))
