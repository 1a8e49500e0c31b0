"""What the keys of a config must be to each other, as far as plain numbers decide it: no data, no network, no jax."""

from ml_collections import ConfigDict

from mdlm_jax.configs.base import MOST_STEPS
from mdlm_jax.configs.checks import refuse

SHAPE = ("layers", "width", "heads", "key_value_heads", "mlp_width")


def refuse_contradictions(config: ConfigDict) -> None:
    """Checks divisors, and that a named size or the keys of a shape give the network, never both.

    Args:
        config: A config with every key.

    Raises:
        UserError: One line with the key, its value and what would be accepted.
    """
    train, data, model = config.train, config.data, config.model
    if train.batch_size % train.microbatches:
        refuse("train.microbatches", train.microbatches, f"a divisor of train.batch_size = {train.batch_size}")
    if not 0 <= data.prompt_tokens < data.sequence_length:
        accepted = f"0 to {data.sequence_length - 1}, below data.sequence_length"
        refuse("data.prompt_tokens", data.prompt_tokens, accepted)
    if config.objective.block_size and data.sequence_length % config.objective.block_size:
        accepted = f"a divisor of data.sequence_length = {data.sequence_length}, or 0"
        refuse("objective.block_size", config.objective.block_size, accepted)
    if config.objective.block_size and data.source == "chat" and data.padding == "packed":
        # a conversation begins with a block when it is sampled
        refuse("data.padding", data.padding, "unread or scored, where objective.block_size is not 0")
    if train.loss_per != "token" and data.source == "chat" and data.padding == "packed":
        # a mean over rows would count several answers as one
        refuse("data.padding", data.padding, f"unread or scored, where train.loss_per is {train.loss_per}")
    checkpoint_steps(config)
    if model.lora_rank and model.parametrization != "standard":
        refuse("model.parametrization", model.parametrization, "standard where model.lora_rank is not 0")
    _refuse_schedule_free(config.optim)
    _refuse_shape(model)


def checkpoint_steps(config: ConfigDict) -> tuple[int, ...]:
    """The steps in `train.checkpoint_at`, ascending.

    Raises:
        UserError: It lists something else.
    """
    words = [word.strip() for word in config.train.checkpoint_at.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() and 0 < int(word[:11]) <= MOST_STEPS for word in words):
        refuse("train.checkpoint_at", config.train.checkpoint_at, "steps from 1 on by commas, as in 500,1000")
    return tuple(sorted({int(word) for word in words}))


def _refuse_schedule_free(optim: ConfigDict) -> None:
    if optim.name != "schedule_free":
        return
    where = "where optim.name is schedule_free"
    if optim.decay != "constant":
        refuse("optim.decay", optim.decay, f"constant, {where}: its average takes the place of a decay")
    if optim.ema:
        refuse("optim.ema", optim.ema, f"0, {where}: it has an average of its own")
    if not optim.beta_1:
        refuse("optim.beta_1", optim.beta_1, f"above 0, {where}")


def _refuse_shape(model: ConfigDict) -> None:
    if model.size:
        for name in SHAPE:
            if model[name]:
                accepted = f"0, where model.size is {model.size!r}, or another with model.size=''"
                refuse(f"model.{name}", model[name], accepted)
        return
    for name in SHAPE:
        if model[name] < 1:
            refuse(f"model.{name}", model[name], "at least 1 where model.size is empty")
    if model.width % model.heads and not model.head_size:
        refuse("model.heads", model.heads, f"a divisor of model.width = {model.width}")
    if model.heads % model.key_value_heads:
        refuse("model.key_value_heads", model.key_value_heads, f"a divisor of model.heads = {model.heads}")
