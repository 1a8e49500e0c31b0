"""The likelihood of text under a trained run, or its bound, as one JSON object."""

import pathlib

from mdlm_jax.data import Example
from mdlm_jax.data.captioned import known_entropies
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.likelihood import evaluate
from mdlm_jax.evaluation.text_and_images import agreement, bits_per_dimension, evaluate_tasks
from mdlm_jax.objectives.ar_of_modalities import likelihoods_of_tasks
from mdlm_jax.objectives.modality_tasks import TASKS
from mdlm_jax.runs.held_out import OWN_DATA, DataOptions, open_held_out, open_text
from mdlm_jax.runs.likelihoods import chosen_likelihood, tight_likelihood
from mdlm_jax.runs.protocols import check_protocol
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.runs.say import doing
from mdlm_jax.runs.zero_shot import open_protocol


def evaluate_run(
    folder: pathlib.Path,
    *,
    draws: int | None,
    sequences: int | None,
    data: DataOptions = OWN_DATA,
    path: str | None = None,
    protocol: str | None = None,
    detokenize: str | None = None,
    likelihood: str | None = None,
    orders: int | None = None,
) -> dict:
    """Nats per token with errors, bits per byte and perplexity of the newest checkpoint.

    The noise of each sequence is fixed, so two calls give the same number.

    Args:
        folder: The run's folder.
        draws: Views of each sequence; None for the run's own number.
        sequences: Held-out sequences; None for the run's own number.
        data: Another corpus, or the run's own where it lies now.
        path: Text files to evaluate it on from beginning to end, instead of held-out rows of a corpus. Of `data` only
            the field and the length then count.
        protocol: A key of PROTOCOLS: how zero-shot perplexities are published; `path` is then the test set.
        detokenize: With `protocol`: a key of RULES, the test set whose word tokenization is undone.
        likelihood: A key of LIKELIHOODS; None or elbo for what the objective reports.
        orders: Of the likelihood `orders`: random orders of each sequence; None for 64.

    Raises:
        UserError: There is no run, no corpus to evaluate it on, or no such likelihood of it.
    """
    if protocol is not None:
        check_protocol(protocol, detokenize)
    run = open_run(folder, padded=path is not None or data.source == "chat")
    likelihood = chosen_likelihood(run, likelihood, draws, orders)
    draws = run.config.eval.draws if draws is None else draws
    if draws < 2:
        raise UserError(f"--draws={draws}; accepted: 2 or more, which give an error")
    if protocol is not None:
        held_out = open_protocol(
            run, protocol, str(path), detokenize=detokenize, field=data.field, length=data.sequence_length
        )
    elif path is not None:
        held_out = open_text(run, path, data.field, data.sequence_length)
    else:
        held_out = open_held_out(run, folder, sequences, data)
    with doing("evaluating"):
        if likelihood is not None:
            found, more = tight_likelihood(run, held_out.rows, likelihood, orders)
        else:
            found = evaluate(
                run.model,
                run.objective,
                run.params,
                run.objective_params,
                held_out.rows,
                draws=draws,
                batch_size=run.config.eval.batch_size,
                chunk=run.config.train.loss_chunk,
            )
            more = _text_and_images(run, held_out.rows, draws)
    return {
        "run": folder.name,
        "step": run.step,
        "objective": run.config.objective.name,
        **found._asdict(),
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte(held_out.bytes_per_token),
        "data": held_out.described,
        **more,
    }


def _text_and_images(run: Run, rows: Example, draws: int) -> dict:
    """The likelihood of every task that `unified`, or `ar` in its order, answers, and their agreement; nothing for
    other objectives."""
    data, layout = run.config.data, run.layout
    if layout is None or not run.objective.parts:
        return {}
    objectives = dict.fromkeys(TASKS, run.objective)
    if run.config.objective.name == "ar":
        order = run.config.objective.order
        objectives = likelihoods_of_tasks(run.vocab_size, layout.text_vocab, layout.text_length, order)
    tasks = evaluate_tasks(
        run.model,
        objectives,
        run.params,
        run.objective_params,
        rows,
        layout.text_vocab,
        draws=draws,
        batch_size=run.config.eval.batch_size,
        chunk=run.config.train.loss_chunk,
    )
    known, numbers = known_entropies(data.source, layout), layout.height * layout.width * layout.channels
    found: dict = {
        "tasks": {name: {**task._asdict(), "entropy": known.get(name)} for name, task in tasks.items()},
        "bits_per_pixel": {
            name: bits_per_dimension(tasks[name].nats_per_row, numbers)
            for name in ("image", "image_given_text")
            if name in tasks
        },
    }
    if layout.why_no_bits is not None:
        found |= {"bits_per_pixel": None, "no_bits_because": layout.why_no_bits}
    if tasks.keys() == TASKS.keys():
        agreed = agreement(tasks)
        found["agreement"] = {**agreed._asdict(), "spread": agreed.spread}
    return found
