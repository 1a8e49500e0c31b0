"""Small random models with a small tokenizer, and local tasks, for our adapter and for `lm_eval`'s own."""

import json
import pathlib

import tokenizers

from tests.weights.models import LLAMA, random_tensors, write_folder

V = 300
LLAMA_SMALL = LLAMA | {"vocab_size": V, "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 0}
LLADA = {
    "model_type": "llada",
    "vocab_size": V,
    "embedding_size": V,
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 2,
    "mlp_hidden_size": 48,
    "max_sequence_length": 40,
    "mask_token_id": 200,
}
WORDS = "the cat sat on the mat and the dog ate the hat of the man who ran at ten past two "
CHOICES = [
    ("the cat sat on", ["the mat", "a", "the dog ate", "2"], 0),
    ("the dog ", ["ate", " ran  at", "sat on the mat", "\n"], 1),
    ("Überall ½ and", ["漢字", "the man", "who", "ten past"], 2),
    (f"{WORDS * 2}so", ["past", "cut at the left", "x", "of the man"], 3),
    ("two", ["cat", "dog", "hat", "man"], 0),
]
TEXTS = ["the cat", f"{WORDS * 3}", f"{WORDS}½ {WORDS}", "x"]
# trims messages and takes no system message, as Gemma's does
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ message['role'] + ': ' + message['content'] | trim + '<|endoftext|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
WITH_SYSTEM = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '<|endoftext|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TASKS = {
    "small_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": name} for name in ("acc", "acc_norm")],
    },
    "small_rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    },
    "small_text": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n", "t"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


def model_folder(path: pathlib.Path, config: dict, template: str | None = None) -> pathlib.Path:
    """A model with a byte-level BPE of few merges, and a chat template."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=V,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS * 3, "Überall ½ 漢字, who ate two hats"], trainer)
    write_folder(path, config, random_tensors(config))
    tokenizer.save(str(path / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    (path / "tokenizer_config.json").write_text(json.dumps(described))
    return path


def task_folder(path: pathlib.Path) -> pathlib.Path:
    """The files of all tasks, with their data."""
    path.mkdir()
    documents = {
        "small_choice": [{"question": q, "choices": c, "label": label} for q, c, label in CHOICES],
        "small_rolling": [{"text": text} for text in TEXTS],
        "small_text": [{"question": question, "answer": "x"} for question, _, _ in CHOICES],
    }
    for name, task in TASKS.items():
        data = path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents[name]))
        common = {"task": name, "dataset_path": "json", "test_split": "test"}
        common["dataset_kwargs"] = {"data_files": {"test": str(data)}}
        (path / f"{name}.yaml").write_text(json.dumps(common | task))  # JSON is YAML
    return path
