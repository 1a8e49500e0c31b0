import pytest

from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.errors import UserError
from mdlm_jax.models.ladder import SMALL, SMDM, architecture


def test_names_are_non_embedding_parameters():
    units = {"k": 1e3, "M": 1e6}
    for name, size in (SMALL | SMDM).items():
        assert num_parameters(size).non_embedding == pytest.approx(float(name[:-1]) * units[name[-1]], rel=0.06), name


def test_sizes_are_well_formed():
    assert len(SMDM) == 30
    assert not set(SMDM) & set(SMALL)
    for size in (SMALL | SMDM).values():
        assert size.width == size.heads * size.head_width
        assert size.head_width >= 4
        assert size.head_width % 2 == 0  # rotations come in pairs
    counts = [num_parameters(size).non_embedding for size in SMALL.values()]
    assert counts == sorted(counts)
    assert counts[0] < 5e3 and counts[-1] > 2e7


def test_architecture_applies_vocabulary_and_overrides():
    size = architecture("6M", 50257, qk_norm=True)
    assert size == SMDM["6M"]._replace(vocab_size=50257, qk_norm=True)
    assert architecture("4k", 256).vocab_size == 256


def test_unknown_size_or_field_is_refused():
    with pytest.raises(UserError, match="unknown model size '7M'; known: 0.53k, 1k"):
        architecture("7M", 256)
    with pytest.raises(UserError, match="unknown field 'depth'.*layers"):
        architecture("6M", 256, depth=3)
