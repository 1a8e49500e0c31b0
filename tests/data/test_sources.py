"""Where documents come from, and what is held out."""

import lzma
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mdlm_jax.data.sources import hold_out_tail, open_documents
from mdlm_jax.errors import UserError


def test_stdlib_is_split_by_file():
    documents = open_documents("stdlib", "", "", "")
    train, validation = list(documents.train()), list(documents.validation())
    assert len(train) + len(validation) == len(documents.files) > 400
    assert list(documents.train()) == train, "may be read again"
    held_out = sum(map(len, validation)) / sum(map(len, train + validation))
    assert 0.045 < held_out < 0.055
    names = [file.as_posix() for file in documents.files]
    assert names == sorted(names) and any(name.endswith("/argparse.py") for name in names)
    assert not any(part in name for name in names for part in ("site-packages", "/test/", "/idlelib/", "/ensurepip/"))


@pytest.mark.parametrize("documents", [["x" * 1000], [*"abcdefghij" * 10], ["a" * 10, "b" * 985, "c" * 5]])
def test_last_twentieth_is_held_out(documents):
    head, tail = hold_out_tail(lambda: iter(documents))
    assert "".join([*head(), *tail()]) == "".join(documents)
    assert len("".join(tail())) == len("".join(documents)) // 20
    assert all([*head(), *tail()]), "no empty documents"
    whole = [document for document in [*head(), *tail()] if document in documents]
    assert len(whole) >= len(documents) - 1, "at most one document is cut"


def test_text_may_name_its_held_out_files(tmp_path):
    (tmp_path / "train.txt").write_text("one\n\f\ntwo")
    (tmp_path / "valid.jsonl").write_text('{"body": "three"}\n')
    documents = open_documents("text", f"{tmp_path}/train.txt", f"{tmp_path}/valid.jsonl", "body")
    assert (list(documents.train()), list(documents.validation())) == (["one", "two"], ["three"])
    assert [file.name for file in documents.files] == ["train.txt", "valid.jsonl"]


def test_compressed_text_splits_at_form_feeds(tmp_path):
    novels = tmp_path / "novels.txt.xz"
    novels.write_bytes(lzma.compress("Émile\nle premier\n\f\ntwo\f\n\f\nthree".encode()))
    documents = open_documents("text", str(novels), str(novels), "")
    assert list(documents.train()) == ["Émile\nle premier", "two\f", "three"]


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS dataset such as `tfds build` leaves."""

    VERSION = tfds.core.Version("1.0.0")
    splits: ClassVar[dict[str, list[str]]]

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(texts) for split, texts in self.splits.items()}

    def _generate_examples(self, texts):
        for i, text in enumerate(texts):
            yield i, {"text": text, "label": i}


def tiny_tfds(folder, splits):
    Tiny.splits = splits
    Tiny(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder / "tiny" / "1.0.0")


def test_tfds_by_name_and_by_folder(tmp_path, monkeypatch):
    texts = [f"document {i} é" for i in range(40)]
    folder = tiny_tfds(tmp_path, {"train": texts, "test": ["", "held out"]})
    documents = open_documents("tfds", folder, "", "text")
    assert (list(documents.train()), list(documents.validation())) == (texts[:38], texts[38:])
    assert all(file.is_file() for file in documents.files) and documents.files
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    documents = open_documents("tfds", "tiny", "test", "text")
    assert (list(documents.train()), list(documents.validation())) == (texts, ["", "held out"])


def test_tfds_holds_out_its_validation_split(tmp_path):
    folder = tiny_tfds(tmp_path, {"train": ["a", "b"], "validation": ["c"]})
    documents = open_documents("tfds", folder, "", "text")
    assert (list(documents.train()), list(documents.validation())) == (["a", "b"], ["c"])
    for validation_path, field, what in [
        ("", "body", "text"),
        ("test", "text", "train, validation"),
        ("", "label", "found"),
    ]:
        with pytest.raises(UserError, match=what):
            list(open_documents("tfds", folder, validation_path, field).train())


def test_unknown_sources_and_datasets_are_refused(tmp_path):
    with pytest.raises(UserError, match="stdlib, text, tfds"):
        open_documents("web", "", "", "")
    for path, what in (
        (str(tmp_path), "prepare"),
        ("no_such_dataset", "not found"),
        ("imdb_review", "perhaps 'imdb_reviews'"),
    ):
        with pytest.raises(UserError, match=f"{path}.*{what}.*tfds build") as caught:
            open_documents("tfds", path, "", "text")
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500
