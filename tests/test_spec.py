"""The facts of data."""

import json

import pytest

from dlarch import DataSpec
from dlarch.spec import BOS, EOS, FACT_NAMES, PAD, SPECIAL_TOKENS, UNK


def test_special_ids_are_the_first_four_in_the_order_of_their_names():
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert SPECIAL_TOKENS == ("<pad>", "<unk>", "<bos>", "<eos>")


def test_facts_are_what_is_known():
    spec = DataSpec(num_classes=0, image_shape=(1, 8, 8), fingerprint="abc")
    assert spec.facts() == {"num_classes": 0, "image_shape": (1, 8, 8)}
    assert DataSpec().facts() == {}
    assert set(spec.facts()) < set(FACT_NAMES)
    assert "fingerprint" not in FACT_NAMES


def test_a_spec_survives_json():
    spec = DataSpec(source_vocab_size=7, image_shape=(3, 4, 5), fingerprint="abc")
    assert DataSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_what_a_newer_dlarch_wrote_is_left_out():
    assert DataSpec.from_dict({"num_users": 3, "num_moons": 2}) == DataSpec(num_users=3)


def test_a_spec_cannot_be_changed():
    with pytest.raises(AttributeError):
        DataSpec().num_users = 3  # type: ignore[misc]
