"""The model class that the LM evaluation harness calls."""

import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import lm_eval.models  # noqa: F401  the harness looks for its own models only while none is registered
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from mdlm_jax.data.chat_template import continued, open_template
from mdlm_jax.errors import UserError
from mdlm_jax.harness.answers import Answers, digest_of
from mdlm_jax.harness.generation import guided_by, texts, wanted
from mdlm_jax.harness.lines import SCORES, TEXTS, Lines
from mdlm_jax.harness.reader import reader_of
from mdlm_jax.harness.requests import Parts, Scored, pair, windows
from mdlm_jax.harness.scoring import Score, Scorer, scores
from mdlm_jax.runs.answer_nats import asked_of
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.say import doing
from mdlm_jax.sampling.run_sampler import sampler_of


class Total(NamedTuple):
    """Of the requests of a task."""

    requests: int = 0
    tokens: int = 0
    nats: float = 0.0
    variance: float = 0.0  # of the nats, from noise


@register_model("mdlm_jax")
class HarnessModel(LM):
    """A run or a public model, as the harness takes it: exact if it predicts from left to right, else by its bound."""

    def __init__(
        self,
        run: str | pathlib.Path,
        out: str | pathlib.Path,
        draws: int | None = None,
        batch_size: int | None = None,
        length: int | None = None,
        sampler: str | None = None,
        likelihood: str | None = None,
        orders: int | None = None,
        guidance: float | None = None,
        chat: bool = False,
        kinds: Collection[str] = (),
    ) -> None:
        """Opens the model and what the folder `out` knows already.

        Args:
            run: The folder of a run or of a public model.
            out: The folder that keeps the answers.
            draws: Views of each answer where likelihoods are bounds, an even number; None for 128.
            batch_size: Rows computed at once. Default: eval.batch_size of the run.
            length: Tokens that the network reads at once. Default: those of a row in training, or of the context.
            sampler: What draws text, as `sampler_of` reads it. Default: the usual one of the run.
            likelihood: A key of LIKELIHOODS; None or elbo for what the objective reports.
            orders: Of the likelihood `orders`: random orders of each answer; None for 64.
            guidance: Weight of classifier-free guidance by the context, of likelihoods and of drawn text.
            chat: Whether the harness may ask for the chat template.
            kinds: Requests that will come, where they are known: settings that do not fit them are refused at once.

        Raises:
            UserError: There is no such model, or the settings do not fit it.
        """
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise UserError(f"--batch-size={batch_size}; accepted: 1 or more")
        folder = pathlib.Path(run)
        opened = open_run(folder, padded=True)
        self.where = f"--chat: {folder}"
        self.render = open_template(self.where, opened.tokenizer.files) if chat else None
        self.name = folder.name
        reader = reader_of(folder, opened, length, chat)
        asked = asked_of(opened, likelihood=likelihood, draws=draws, orders=orders, guidance=guidance)
        sampler_of(opened, sampler, guided_by(guidance) if "generate_until" in kinds else {})
        if "loglikelihood_rolling" in kinds:
            _check_rolling(guidance)
        self.sampler = sampler
        answers = Answers(pathlib.Path(out))
        batch_size = batch_size or opened.config.eval.batch_size
        self.scorer = Scorer(opened, reader, digest_of(opened), answers, asked, batch_size)
        self.scored = Lines(pathlib.Path(out) / SCORES)  # of each request: its task and document, its score and error
        self.drawn = Lines(pathlib.Path(out) / TEXTS)  # likewise the text
        self.totals: dict[str, Total] = {}  # by task

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log likelihood, whether greedy decoding gives it) of each continuation; false for every bound."""
        found = self._scores(requests, lambda request: [pair(self.scorer.reader, *request.args)])
        return [(-score.nats, bool(score.greedy)) for score in found]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log likelihood of each text from its beginning to its end."""
        _check_rolling(self.scorer.asked.guidance)
        found = self._scores(requests, lambda request: windows(self.scorer.reader, *request.args))
        return [-score.nats for score in found]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text that follows each context, up to the first of the texts that end it."""
        asked = [wanted(self.scorer, self.sampler, *request.args) for request in requests]
        with doing(f"{len(requests)} texts are drawn"):
            found = texts(self.scorer, self.sampler, asked)
        for request, text in zip(requests, found, strict=True):
            self.drawn.add(_of(request) | {"text": text})
        return found

    @property
    def tokenizer_name(self) -> str:
        """Names the harness's cache of requests."""
        return self.name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a conversation. Where the template takes no system message, it is left out, as by `hf`.

        Args:
            chat_history: Messages with `role` and `content`.
            add_generation_prompt: Whether an answer follows; else the last message goes on.

        Raises:
            UserError: The model was opened without its template, or the template fails.
        """
        if self.render is None:
            raise UserError("chat=False; accepted: True, to apply the chat template")
        try:
            return self._rendered(chat_history, add_generation_prompt)
        except UserError:
            others = [message for message in chat_history if message["role"] != "system"]
            if len(others) == len(chat_history):
                raise
            return self._rendered(others, add_generation_prompt)

    def _rendered(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        assert self.render is not None
        return self.render(messages) if add_generation_prompt else continued(self.where, self.render, messages)

    def _scores(self, requests: list[Instance], parts_of: Callable[[Instance], list[Scored]]) -> Iterator[Score]:
        """The score of each request, of one or several rows."""
        parts = Parts(requests, parts_of)
        with doing(f"{len(requests)} requests are scored"):
            found = iter(scores(self.scorer, parts))
        for request, count in zip(requests, parts.counts, strict=True):
            yield self._keep(request, [next(found) for _ in range(count)])

    def _keep(self, request: Instance, parts: list[Score]) -> Score:
        """The score of a request of several rows, which is kept for the report."""
        error = sum(part.standard_error**2 for part in parts) ** 0.5
        greedy = None if any(part.greedy is None for part in parts) else all(part.greedy for part in parts)
        total = Score(
            sum(part.nats for part in parts),
            error,
            sum(part.tokens for part in parts),
            max((part.draws for part in parts), default=0),
            greedy,
        )
        row = _of(request)
        self.scored.add(row | total._asdict())
        before = self.totals.get(row["task"], Total())
        self.totals[row["task"]] = Total(
            before.requests + 1, before.tokens + total.tokens, before.nats + total.nats, before.variance + error**2
        )
        return total


def _check_rolling(guidance: float | None) -> None:
    """Refuses guidance of texts that follow no prompt."""
    if guidance is not None:
        raise UserError(
            f"--guidance={guidance}: rolling likelihoods are of texts without a prompt; accepted: other tasks"
        )


def _of(request: Instance) -> dict[str, Any]:
    """Where a request comes from."""
    return {"task": request.task_name, "document": request.doc_id, "request": request.idx}
