"""Rules that undo the word tokenization of public test sets."""

import pytest

from mdlm_jax.data.detokenize import RULES, detokenizer

# each worked out by hand from the published rules, in their order
WORKED = {
    "wikitext": [
        (" = Homarus gammarus = \n", " = Homarus gammarus =\n"),
        ("3 @.@ 5 to 1 @,@ 000 , well @-@ known .\n", "3.5 to 1,000, well-known .\n"),
        ('He said " yes " ( twice ) [ sic ] .', 'He said "yes" (twice) [sic] .'),
        (" = = = See also = = = \n", " === See also ===\n"),
        ("the dogs ' 20 ° C : N times", "the dogs' 20°C: 1 times"),
        ("", ""),
    ],
    "ptb": [
        (
            "the company 's $ N million loss does n't <unk> N N times",
            "the company's $1 million loss doesn't ? 1 1 times",
        ),
        ("# N of the unions ' 1\\/2", "#1 of the unions' 1/2"),
    ],
    "lm1b": [
        ('It \'s here , he said : " yes " .', 'It\'s here, he said: "yes" .'),
        ("Is it ( now ) $ 5 ?", "Is it (now) $5?"),
        ("She left at noon .", "She left at noon."),
        ("see http : / / a / b", "see http://a/b"),
    ],
    "lambada": [("  “ who ? ” she said \n", '\n" who ? " she said'), ("", "\n")],
    "scientific_papers": [("a @-@ b ( c ) / d .", "a-b (c)/d.")],
}


@pytest.mark.parametrize("name", RULES)
def test_worked_examples(name):
    for text, expected in WORKED[name]:
        assert detokenizer(name)(text) == expected
