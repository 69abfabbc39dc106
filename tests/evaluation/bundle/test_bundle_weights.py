"""Weights from elsewhere are held to their config before anything of their size is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from built import CONFIGS, all_translators
from safetensors.torch import save_file

from raybridge.evaluation.bundle.again import fitting
from raybridge.models import names
from raybridge.scales import POCKET


def written(config, path, **changes):
    """Weights of a translator between the pocket pair, in a file."""
    source, target = names.width_of("pocket:source"), names.width_of("pocket:target")
    weights = config.build(source, target, target_rms=1.0).state_dict()
    save_file({name: one.contiguous().clone() for name, one in (weights | changes).items()}, path)
    return weights


@all_translators
def test_weights_of_every_translator_fit_their_own_config(config, tmp_path):
    file = tmp_path / "translator.safetensors"
    weights = written(config, file)
    read = fitting(file, replace(POCKET.trial, name="any", translator=config))
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_weights_that_do_not_fit_are_named_and_a_size_that_is_claimed_is_not_made(tmp_path):
    file = tmp_path / "translator.safetensors"
    config = CONFIGS[0]
    written(config, file, extra=torch.ones(2))
    with pytest.raises(ValueError, match=r"extra is \(2,\), and its config asks for none"):
        fitting(file, replace(POCKET.trial, name="any", translator=config))
    written(config, file)
    huge = replace(config, width=2**20)  # more memory than there is
    with pytest.raises(ValueError, match="and its config asks for"):
        fitting(file, replace(POCKET.trial, name="any", translator=huge))
    file.write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match="cannot be read"):
        fitting(file, replace(POCKET.trial, name="any", translator=config))
