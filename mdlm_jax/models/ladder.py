"""Architectures of the named model sizes."""

from mdlm_jax.configs import sizes
from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture


def _llama(size: sizes.Size, vocab_size: int) -> Architecture:
    return Architecture(
        vocab_size, size.layers, size.width, size.heads, key_value_heads=size.heads, mlp_width=size.mlp_width
    )


SMDM: dict[str, Architecture] = {name: _llama(size, 32000) for name, size in sizes.SMDM.items()}
SMALL: dict[str, Architecture] = {name: _llama(size, 256) for name, size in sizes.SMALL.items()}  # on bytes


def architecture(name: str, vocab_size: int, **overrides) -> Architecture:
    """The architecture of a named size.

    Args:
        name: A key of SMALL or SMDM.
        vocab_size: V, without the mask.
        **overrides: Fields of Architecture to replace.

    Raises:
        UserError: The size or a field is unknown.
    """
    sizes = SMALL | SMDM
    if name not in sizes:
        raise UserError(f"unknown model size '{name}'; known: {', '.join(sizes)}")
    unknown = sorted(set(overrides) - set(Architecture._fields))
    if unknown:
        raise UserError(f"unknown field '{unknown[0]}' of an architecture; known: {', '.join(Architecture._fields)}")
    return sizes[name]._replace(**{"vocab_size": vocab_size, **overrides})
