"""Undoes the word tokenization of public test sets, as published zero-shot perplexities do.

The rules and their order are those of SEDD's and MDLM's evaluation, with their oddities: N, which PTB writes for a
number, becomes 1.

Reference: SEDD, arXiv 2310.16834; MDLM, arXiv 2406.07524.
"""

import re
from collections.abc import Callable, Sequence

Rule = tuple[str, str]  # a regular expression, and what replaces each match


def _plain(*rules: Rule) -> list[Rule]:
    """Rules for texts that mean nothing but themselves."""
    return [(re.escape(old), new) for old, new in rules]


def _no_space_before(marks: str) -> list[Rule]:
    """A mark between two spaces loses the first."""
    return _plain(*((f" {mark} ", f"{mark} ") for mark in marks))


WIKITEXT = [
    *_plain(("s '", "s'")),
    (r"/' [0-9]/", "/'[0-9]/"),  # meant for digits in quotes; matches only between slashes
    *_plain((" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")),
    *_no_space_before(":;.!?,"),
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r'"\s*([^"]*?)\s*"', r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
    *_plain(("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" ° ", "°")),
    *_plain((" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s")),
]
PTB = [
    *_plain((" 's", "'s"), ("s ' ", "s' "), (" n't", "n't"), (" \n ", "\n"), ("\\/", "/")),
    *_plain((" N ", " 1 ")) * 10,  # neighbours share a space, so one pass leaves every other one
    *_plain(("$ 1", "$1"), ("# 1", "#1"), ("<unk>", "?")),
]
LM1B = [
    *_plain(("http : / / ", "http://"), ("https : / / ", "https://")),
    (r" '(\w+)", r"'\1"),
    (r" (\w+) \. ", r" \1. "),
    (r" (\w+) \.$", r" \1."),
    *_no_space_before("?"),
    (r" \?$", "?"),
    *_no_space_before("!"),
    (r" !$", "!"),
    *_no_space_before(",:;"),
    *_plain((" / ", "/")),
    (r'" ([^"]+) "', r'"\1"'),
    (r"' ([^']+) '", r"'\1'"),
    (r"\( ([^()]+) \)", r"(\1)"),
    (r"\[ ([^\[\]]+) \]", r"[\1]"),
    *_plain(("$ ", "$"), ("£ ", "£")),
]
LAMBADA = [*_plain(("“", '"'), ("”", '"')), (r"(?s)\A\s*(.*?)\s*\Z", r"\n\1")]
RULES: dict[str, Sequence[Rule]] = {
    "wikitext": WIKITEXT,
    "ptb": PTB,
    "lm1b": LM1B,
    "lambada": LAMBADA,
    "scientific_papers": [*WIKITEXT, *LM1B],
}


def detokenizer(name: str) -> Callable[[str], str]:
    """The function that undoes the word tokenization of a test set.

    >>> detokenizer("wikitext")("It was 3 @.@ 5 m ( 11 ft ) , he said .\\n")
    'It was 3.5 m (11 ft), he said.\\n'

    Args:
        name: A key of RULES.
    """
    compiled = [(re.compile(pattern), new) for pattern, new in RULES[name]]

    def detokenize(text: str) -> str:
        for pattern, new in compiled:
            text = pattern.sub(new, text)
        return text

    return detokenize
