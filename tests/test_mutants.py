"""The stored faults of tests/mutants still apply."""

from tests.mutants.__main__ import ROOT, stored


def test_every_stored_fault_applies():
    for mutant in stored():
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.before) == 1, mutant
        for test in mutant.tests:
            assert (ROOT / test.partition("::")[0]).exists(), mutant


def test_there_are_a_hundred():
    assert len(stored()) >= 100
