"""The rotary embedding that a configuration describes, in the spellings of transformers 4 and 5."""

from mdlm_jax.errors import UserError
from mdlm_jax.models.rope_scaling import parse_scaling
from mdlm_jax.weights.settings import Settings

# our parameters of each kind: the published names
PUBLISHED = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low": "low_freq_factor",
        "high": "high_freq_factor",
        "original": "original_max_position_embeddings",
    },
    "yarn": {
        "factor": "factor",
        "original": "original_max_position_embeddings",
        "fast": "beta_fast",
        "slow": "beta_slow",
        "attention": "attention_factor",
    },
}


def rope_of(settings: Settings, head_size: int) -> tuple[float, str]:
    """Base and scaling.

    Raises:
        UserError: The kind is not computed here (dynamic, longrope, ...), or its parameters are wrong.
    """
    if head_size % 2:
        settings.refuse("head_dim", f"an even number; it is {head_size}")
    given = settings.inner("rope_parameters")
    older = settings.inner("rope_scaling")
    values = {**older.values, **given.values}
    rope = Settings(values, settings.file)
    base = rope.number("rope_theta", settings.number("rope_theta", 1e4))
    kind = rope.get("rope_type", rope.get("type", "default"))
    factor = rope.get("partial_rotary_factor", settings.get("partial_rotary_factor", 1.0))
    if factor != 1:
        raise UserError(f"{settings.file}: partial_rotary_factor is {factor!r}; accepted: 1")
    if kind == "default":
        return base, ""
    if not isinstance(kind, str) or kind not in PUBLISHED:
        accepted = ", ".join(("default", *PUBLISHED))
        raise UserError(f"{settings.file}: rope_type is {str(kind)[:80]!r}; accepted: {accepted}")
    for key in ("mscale", "mscale_all_dim"):
        rope.only(key, None)
    fields = {own: rope.number(name) for own, name in PUBLISHED[kind].items() if rope.get(name, None) is not None}
    if kind == "yarn" and rope.values.get("truncate") is False:
        fields["truncate"] = 0.0
    text = f"{kind}:" + ",".join(f"{name}={value!r}" for name, value in fields.items())
    try:
        _, parsed = parse_scaling(text)
    except UserError as error:
        raise UserError(f"{settings.file}: {error}") from error
    if kind == "llama3" and parsed["high"] <= parsed["low"]:
        raise UserError(f"{settings.file}: high_freq_factor is {parsed['high']}; accepted: above low_freq_factor")
    if base <= 1:
        settings.refuse("rope_theta", "above 1 where the frequencies are scaled")
    return base, text
