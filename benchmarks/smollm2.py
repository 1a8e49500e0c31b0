"""SmolLM2-135M against `transformers` on PyTorch: forward, forward and backward, greedy decoding, loading.

    mdlm-jax convert SmolLM2-135M-Instruct.Q4_1.gguf --out FOLDER
    JAX_PLATFORMS=cpu python benchmarks/smollm2.py FOLDER [ROUNDS]

Both compute in float32 with all cores of this process, and keep freed memory. The two sides alternate, after a warm-up
of each question; a ratio is the median over rounds of PyTorch's seconds over ours. Losses and drawn tokens must agree,
or nothing is reported. Memory is the growth of a fresh process over the imports: weights, and two forward and backward
passes. Writes results/smollm2.json and smollm2.md.
"""

import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mdlm_jax.malloc import ask_for_huge_pages, set_up_malloc  # noqa: E402

if __name__ == "__main__":
    ask_for_huge_pages()
    set_up_malloc()

RESULTS = ROOT / "benchmarks" / "results"
PEER = "benchmarks.smollm2_torch"
PROMPT, NEW, ROWS = 16, 128, 8  # of decoding: tokens given and drawn, rows of the larger batch
QUESTIONS = ("forward 512", "forward 1024", "gradient 512", "decode 1", f"decode {ROWS}")
TOLERANCE = 1e-4  # relative, of values that must agree


def tokens_of(length: int, vocab_size: int = 49152):
    """The same row for both sides."""
    import numpy as np

    return np.random.default_rng(0).integers(vocab_size, size=(ROWS, length), dtype=np.int32)


def ours(folder: str):
    """Question -> its value, with everything compiled at the first call."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mdlm_jax.data import Example
    from mdlm_jax.models.transformer import Execution, transformer
    from mdlm_jax.objectives.autoregressive import ar_without_start
    from mdlm_jax.objectives.base import causal
    from mdlm_jax.sampling import Autoregressive, Trained, sample
    from mdlm_jax.sampling.network import reading
    from mdlm_jax.training.loss import look, nats
    from mdlm_jax.weights.load import load_weights

    execution = Execution(attention="blocked", use_segments=False)
    model, params, _ = load_weights(folder, execution=execution)
    # the gradient scans its 30 layers: a fifth of the time to compile, and no copies of stacked weights
    scanned = transformer(model.architecture, execution._replace(scan_layers=True))
    objective = ar_without_start(model.architecture.vocab_size)

    by_layer = []  # unstacked once, at the first forward pass

    @jax.jit
    def forward(params, tokens):
        positions = jnp.arange(tokens.shape[1])[None, :, None]
        hidden, _ = model.hidden(params, reading(tokens, positions, positions, jnp.zeros(1)), causal)
        return model.head(params, hidden)

    def loss(params, tokens):
        example = Example(tokens, jnp.ones_like(tokens), jnp.arange(tokens.shape[1])[None] < 1)
        view = look(objective, (), jax.random.split(jax.random.key(0), 1), example, jnp.zeros(1))
        return nats(scanned, objective, params, (), view, chunk=128)[0] / (tokens.shape[1] - 1)

    gradient = jax.jit(jax.value_and_grad(loss))

    def answer(question: str) -> float:
        what, number = question.split()
        if what == "forward":
            by_layer[:] = by_layer or [model.by_layer(params)]
            return float(forward(by_layer[0], tokens_of(int(number))[:1])[0, -1].max())
        if what == "gradient":
            value, slope = gradient(params, tokens_of(int(number))[:1])
            jax.block_until_ready(slope)
            return float(value)
        prompt = tokens_of(PROMPT)[: int(number)]
        drawn, _ = sample(
            jax.random.key(0),
            model,
            params,
            prompt,
            Autoregressive(temperature=0),
            PROMPT + NEW,
            Trained(reads_start=False),
        )
        return float(np.asarray(drawn, np.int64)[:, PROMPT:].sum())

    return answer


def peak_megabytes(module_file: str, folder: str) -> float:
    """What a fresh process says of its memory."""
    command = [sys.executable, module_file, folder, "memory"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.splitlines()[-1])


def memory(make, folder: str) -> float:
    """The growth of this process in megabytes: loading, and two forward and backward passes."""
    status = pathlib.Path("/proc/self/status")

    def read(name: str) -> float:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)) / 1e3

    before = read("VmRSS")
    answer = make(folder)
    for _ in range(2):
        answer("gradient 512")
    return read("VmHWM") - before


def compared(folder: str, rounds: int) -> dict:
    from mdlm_jax.bench.suite import machine
    from mdlm_jax.bench.torch_process import ask, start, stop, timed

    peer, mine, questions = start(sys.executable, pathlib.Path(folder), PEER), ours(folder), {}
    for question in QUESTIONS:
        values = mine(question), ask(peer, question).value
        if abs(values[0] - values[1]) > TOLERANCE * abs(values[1]):
            raise SystemExit(f"{question}: {values[0]} here, {values[1]} there: not the same work")
        turns = []
        for _ in range(rounds):
            own, other = timed(lambda: mine(question)), ask(peer, question)  # noqa: B023
            turns.append({"ours": own._asdict(), "torch": other._asdict()})

        def median(side: str, clock: str) -> float:
            return statistics.median(turn[side][clock] for turn in turns)  # noqa: B023

        questions[question] = {
            **{f"{side}_{clock}": median(side, clock) for side in ("ours", "torch") for clock in CLOCKS},
            **{
                f"ratio_{clock}": statistics.median(t["torch"][clock] / t["ours"][clock] for t in turns)
                for clock in CLOCKS
            },
            "turns": turns,
        }
        print(question, questions[question]["ratio_seconds"], flush=True)
    stop(peer)
    return {"machine": machine(), "torch": peer.version, "questions": questions}


CLOCKS = ("seconds", "cpu_seconds")


def table(found: dict) -> str:
    lines = ["| question | ours, s | PyTorch, s | PyTorch / ours | in CPU time |", "|---|---|---|---|---|"]
    for name, row in found["questions"].items():
        lines.append(
            f"| {name} | {row['ours_seconds']:.2f} | {row['torch_seconds']:.2f} "
            f"| {row['ratio_seconds']:.2f} | {row['ratio_cpu_seconds']:.2f} |"
        )
    ours_mb, torch_mb = found["memory_megabytes"]["ours"], found["memory_megabytes"]["torch"]
    return "\n".join([*lines, "", f"Memory of forward and backward: {ours_mb:,.0f} MB, PyTorch's {torch_mb:,.0f} MB."])


def main(folder: str, rounds: int) -> None:
    from mdlm_jax.files import write_whole

    peer = str(ROOT / "benchmarks" / "smollm2_torch.py")
    megabytes = {"ours": peak_megabytes(__file__, folder), "torch": peak_megabytes(peer, folder)}
    found = compared(folder, rounds) | {"memory_megabytes": megabytes}
    write_whole(RESULTS / "smollm2.json", json.dumps(found, indent=1) + "\n")
    write_whole(RESULTS / "smollm2.md", table(found) + "\n")
    print(table(found))


if __name__ == "__main__":
    if sys.argv[2:] == ["memory"]:
        import jax

        jax.devices()
        print(memory(ours, sys.argv[1]))
    else:
        main(sys.argv[1], int((sys.argv[2:] or ["5"])[0]))
