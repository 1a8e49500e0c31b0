"""Conversations, and a tokenizer of bytes with control tokens and a chat template like SmolLM2's."""

import json
import pathlib

import tokenizers

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|start|>system\nBe kind.<|end|>\n' }}{% endif %}"
    "{{ '<|start|>' + message['role'] + '\n' + message['content'] + '<|end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
# earlier answers lose all but their first letter
REWRITES = (
    "{% for message in messages %}{{ message['role'][0] + ': ' }}"
    "{{ message['content'] if loop.last else message['content'][:1] }}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a: ' }}{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|start|>", "<|end|>"]


def turns(*contents: str, system: str = "") -> list[dict[str, str]]:
    """The messages of a user and an assistant, one after the other."""
    roles = ("user", "assistant")
    head = [{"role": "system", "content": system}] if system else []
    return head + [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]


def conversations() -> list[list[dict[str, str]]]:
    """Six; the third has a system message, and the last message of the fifth has no answer."""
    return [
        turns("hi", "hello"),
        turns("1 + 1", "2", "and twice that", "4"),
        turns("who", "I", system="Short."),
        turns("Überall", "½ 漢字"),
        turns("one", "two", "three"),
        turns("go", "to the place"),
    ]


def tokenizer_folder(path: pathlib.Path, template: str = TEMPLATE) -> pathlib.Path:
    """The small files of a model for conversations; its 256 letters come before the control tokens."""
    path.mkdir(parents=True, exist_ok=True)
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(letters)}, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    model.add_special_tokens(CONTROL)
    (path / "tokenizer.json").write_text(model.to_str())
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    (path / "chat_template.jinja").write_text(template)
    return path


def chat_file(path: pathlib.Path, given: list | None = None) -> pathlib.Path:
    """A .jsonl file with one conversation a line, by default those above."""
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in given or conversations()))
    return path
