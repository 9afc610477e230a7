"""The head that regresses pseudo-labels."""

import numpy as np
import torch

from siftline_workers.methods.funad_head import Head


def test_what_lies_far_from_all_it_saw_gets_a_label_that_exists() -> None:
    head = Head(8, torch.Generator().manual_seed(0))
    near = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float16)
    far = head.predict(near * 6e3)
    assert head(head.prepared(near * 6e3)).abs().max() > 100  # what it would say by itself
    assert (far >= -3).all()
    assert (far <= 8).all()
    assert len(np.unique(head.predict(near))) > 32  # and it is not held where it knows its way
