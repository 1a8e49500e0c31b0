"""The reversal curse on fictional people: a network that read "NAME is DESCRIPTION" is asked who DESCRIPTION is.

    python experiments/reversal.py [FOLDER]

AR and masked networks of one size read the same sentences for the same number of steps: of a third of the people only
with the name first, of a third only with the description first, of a third both ways. Then each is asked in the order
that it read and in the other one, and has to give the two words of a name or the five of a description exactly. One
seed; more in SEEDS have other people. About 5 minutes of one core for a run. Writes answers.json and exact_match.png
into experiments/results/reversal. Finished runs are not repeated.

Reference: the reversal curse, arXiv 2309.12288; SMDM, arXiv 2410.18514, section 5.2.
"""

import itertools
import json
import math
import pathlib
import random
import sys
from collections.abc import Sequence
from typing import NamedTuple

import tokenizers
from ml_collections import ConfigDict

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from mdlm_jax.configs import base  # noqa: E402
from mdlm_jax.report.figures.render import files, specification  # noqa: E402
from mdlm_jax.style import PALETTE, palette_index  # noqa: E402

TITLE = "The reversal curse on fictional people"
FOLDER = pathlib.Path("runs/reversal")
RESULTS = root / "experiments" / "results" / "reversal"
OBJECTIVES, SEEDS = ("ar", "masked"), (0,)
PEOPLE = 24  # in each third
STEPS, BATCH, LENGTH = 1700, 16, 64  # about 530 times each sentence
SYLLABLES = ("bel", "dor", "fen", "gal", "hul", "jor", "kes", "lum", "mir", "nol")
NAMES = [
    f"{one}{end} {two}{other}"
    for one, end, two, other in itertools.product(SYLLABLES, ("a", "en"), SYLLABLES, ("mor", "vik"))
]
KINDS = ("young", "old", "quiet", "famous", "lonely", "brave", "curious", "tired", "cheerful", "patient", "clever")
TRADES = ("painter", "sailor", "baker", "doctor", "pilot", "farmer", "singer", "judge", "poet", "miner", "tailor")
PLACES = ("arlo", "bremen", "corva", "delft", "eland", "farrow", "gorse", "hilden")
DESCRIPTIONS = [f"the {kind} {trade} of {place}" for kind, trade, place in itertools.product(KINDS, TRADES, PLACES)]
SENTENCES = ("{} is {} .", "meet {} , {} .", "they say that {} is {} .")
END = 2  # tokens after an answer: the full stop and the separator
ORDERS = {"trained": "as trained", "reversed": "other order", "blank": "blank in the trained sentence"}


class Person(NamedTuple):
    """A fictional person. Names and descriptions are drawn without replacement, so each belongs to one person."""

    name: str
    description: str


def people(seed: int) -> list[list[Person]]:
    """Three groups: those read with the name first, with the description first, and both ways."""
    random_ = random.Random(seed)
    drawn = zip(random_.sample(NAMES, 3 * PEOPLE), random_.sample(DESCRIPTIONS, 3 * PEOPLE), strict=True)
    everyone = [Person(*pair) for pair in drawn]
    return [everyone[start : start + PEOPLE] for start in range(0, 3 * PEOPLE, PEOPLE)]


def sentences(seed: int) -> list[str]:
    """All that the networks of a seed read, shuffled."""
    name_first, description_first, both = people(seed)
    pairs = [*name_first, *(person[::-1] for person in description_first), *both, *(person[::-1] for person in both)]
    found = [sentence.format(*pair) for pair in pairs for sentence in SENTENCES]
    random.Random(seed).shuffle(found)
    return found


def prepare(folder: pathlib.Path, seed: int) -> None:
    """Writes the sentences of a seed and a tokenizer of their words."""
    folder.mkdir(parents=True, exist_ok=True)
    text = sentences(seed)
    words = sorted({word for sentence in text for word in sentence.split()})
    vocab = {word: index for index, word in enumerate([*words, "<unk>", "</s>"])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, "<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    model.add_special_tokens(["</s>"])
    model.save(str(folder / "tokenizer.json"))
    (folder / "sentences.txt").write_text("\n\f\n".join(text))


def config_of(objective: str, seed: int, folder: pathlib.Path) -> ConfigDict:
    """A network of 0.1M parameters that attends within a sentence."""
    config = base.get_config()
    config.seed, config.data.seed, config.objective.name, config.steps = seed, seed, objective, STEPS
    config.data.source = "text"
    config.data.path = config.data.validation_path = str(folder / "sentences.txt")  # it is to know them by heart
    config.data.tokenizer = str(folder / "tokenizer.json")
    config.data.sequence_length, config.data.keep_documents = LENGTH, True
    config.model.size, config.model.layers, config.model.width, config.model.mlp_width = "", 2, 64, 192
    config.model.heads = config.model.key_value_heads = 4
    config.optim.lr, config.optim.weight_decay = 5e-3, 0.0
    config.train.batch_size, config.train.log_every, config.train.checkpoint_every = BATCH, 200, 0
    config.eval.sequences = 16
    return config


def grid() -> list[ConfigDict]:
    """The runs. What they read is written first: a tokenizer is needed to plan them."""
    for seed in SEEDS:
        prepare(FOLDER / f"seed{seed}", seed)
    return [config_of(objective, seed, FOLDER / f"seed{seed}") for seed in SEEDS for objective in OBJECTIVES]


def answers(run, seed: int) -> dict[str, dict[str, int]]:
    """The number of exact answers by what is asked for and in which order, of PEOPLE each."""
    name_first, description_first, _ = people(seed)
    reversed_people = [Person(person.description, person.name) for person in description_first]
    found = {}
    # of each group: (what was read first, what was read second)
    for asked, other, group in (("description", "name", name_first), ("name", "description", reversed_people)):
        firsts, seconds = ([person[index] for person in group] for index in (0, 1))
        found.setdefault(asked, {})["trained"] = _exact(run, [f"{first} is" for first in firsts], seconds)
        found.setdefault(other, {})["reversed"] = _exact(run, [f"{second} is" for second in seconds], firsts)
        if run.config.objective.name == "masked":
            blanks = [f" is {second} ." for second in seconds]
            found[other]["blank"] = _exact(run, blanks, firsts, before=True)
    return found


def _exact(run, given: Sequence[str], wanted: Sequence[str], before: bool = False) -> int:
    """How many answers after, or before, what is given are exact: by the likeliest token, the surest position first."""
    import jax
    import numpy as np

    from mdlm_jax.sampling import sample
    from mdlm_jax.sampling.run_sampler import sampler_of, trained_of

    name = "autoregressive" if run.config.objective.name == "ar" else "confidence"
    _, sampler = sampler_of(run, name, {"temperature": 0.0})
    prompts, targets = (np.array([run.tokenizer.encode(text) for text in texts]) for texts in (given, wanted))
    width = targets.shape[1]
    if before:
        ends = np.full((len(prompts), 1), run.tokenizer.separator)
        prompts = np.concatenate([np.full_like(targets, run.vocab_size), prompts, ends], axis=1)
        drawn, _ = sample(jax.random.key(0), run.model, run.params, prompts, sampler, None, trained_of(run))
        found = np.asarray(drawn)[:, :width]
    else:
        length = prompts.shape[1] + width + END
        drawn, _ = sample(jax.random.key(0), run.model, run.params, prompts, sampler, length, trained_of(run))
        found = np.asarray(drawn)[:, prompts.shape[1] :][:, :width]
    return int((found == targets).all(axis=1).sum())


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    z, share = 1.959964, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def summary(runs: Sequence[dict]) -> list[dict]:
    """Shares over all seeds with Wilson's intervals, and the share of each seed."""
    rows = []
    for objective, asked, order in itertools.product(OBJECTIVES, ("description", "name"), ORDERS):
        own = [run["exact"][asked] for run in runs if run["objective"] == objective]
        hits = [exact[order] for exact in own if order in exact]
        if hits:
            low, high = wilson(sum(hits), PEOPLE * len(hits))
            share, each = sum(hits) / PEOPLE / len(hits), [one / PEOPLE for one in hits]
            rows.append(
                {"objective": objective, "asked": asked, "order": order, "share": share, "low": low, "high": high}
                | {"each_seed": each}
            )
    return rows


def figure(rows: Sequence[dict]) -> bytes:
    """Shares of exact answers, as PNG."""
    import altair as alt

    shown = [
        {key: row[key] for key in ("objective", "share", "low", "high")}
        | {"order": ORDERS[row["order"]], "asked": f"asked for the {row['asked']}"}
        for row in rows
    ]
    colour = alt.Scale(domain=list(OBJECTIVES), range=[PALETTE[palette_index(name, OBJECTIVES)] for name in OBJECTIVES])
    shared = alt.Chart(alt.Data(values=shown)).encode(
        alt.Y("order:N", sort=list(ORDERS.values()), title=None), alt.YOffset("objective:N", sort=list(OBJECTIVES))
    )
    bars = shared.mark_bar(size=14).encode(
        alt.X("share:Q", title="exact answers", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
        alt.Color("objective:N", scale=colour, title=None),
    )
    intervals = shared.mark_rule(strokeWidth=1.5).encode(alt.X("low:Q"), alt.X2("high:Q"))
    chart = alt.layer(bars, intervals).properties(width=300, height=150).facet(alt.Column("asked:N", title=None))
    return files(specification(chart))[1]


def main(folder: pathlib.Path) -> None:
    import mdlm_jax as mj
    from mdlm_jax.files import write_whole

    runs = []
    for seed, objective in itertools.product(SEEDS, OBJECTIVES):
        data, run = folder / f"seed{seed}", folder / f"{objective}-seed{seed}"
        known = run.with_suffix(".json")
        if not known.exists():
            if not (data / "sentences.txt").exists():
                prepare(data, seed)
            result = mj.train(config_of(objective, seed, data), run)
            if result is None:
                return  # a signal ended it; the next call resumes
            found = {
                "objective": objective,
                "seed": seed,
                "steps": STEPS,
                "tokens": result.tokens,
                "parameters": result.parameters_total,
                "train_seconds": result.wall_seconds,
                "loss": result.loss,
                "exact": answers(mj.open_run(run), seed),
            }
            write_whole(known, json.dumps(found) + "\n")
        runs.append(json.loads(known.read_text()))
    rows = summary(runs)
    RESULTS.mkdir(parents=True, exist_ok=True)
    whole = {"command": "python experiments/reversal.py", "people": PEOPLE, "summary": rows, "runs": runs}
    write_whole(RESULTS / "answers.json", json.dumps(whole, indent=1) + "\n")
    (RESULTS / "exact_match.png").write_bytes(figure(rows))
    for row in rows:
        print(*row.values())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
