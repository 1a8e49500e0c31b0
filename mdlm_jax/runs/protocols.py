"""The published protocols of zero-shot perplexity, by name. It imports no JAX, so a wrong command ends at once."""

from mdlm_jax.data.detokenize import RULES
from mdlm_jax.errors import UserError

CUT = (
    "the separator follows each line of a .txt file and each row of other files, also empty ones; the tokens are cut "
    "into rows, no row sees another, and a last row that is not full is dropped"
)
PROTOCOLS = {
    "sedd": f"{CUT}; every token that the network can predict has a loss, the separators too",
    "mdlm": (
        f"{CUT}; a separator is added before and after each row; ar is given the first, and other objectives predict "
        "all tokens, both separators too"
    ),
}


def check_protocol(name: str, detokenize: str | None) -> None:
    """Raises UserError if there is no such protocol or detokenizer."""
    if name not in PROTOCOLS:
        raise UserError(f"--protocol={name}; accepted: {', '.join(PROTOCOLS)}")
    if detokenize is not None and detokenize not in RULES:
        raise UserError(f"--detokenize={detokenize}; accepted: {', '.join(RULES)}")
