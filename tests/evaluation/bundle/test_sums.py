"""An interval of F1 is resampled: another numpy draws other problems, and its ends move a little; nothing else may."""

import pandas as pd
import pytest

from raybridge.evaluation.bundle.sums import _ends_moved, _of_test

ROWS = pd.DataFrame(
    [
        dict(split="test", step=9, arm="bridged", reading="f1", accuracy=0.22, correct=22.3, low=0.20, high=0.24),
        dict(split="test", step=9, arm="bridged", reading="em", accuracy=0.10, correct=10.0, low=0.08, high=0.13),
    ]
)


def differences(redrawn: bool = True, **told: dict[str, float]) -> list[str]:
    return list(_of_test({"test": {"bridged": told}}, ROWS, 9, redrawn=redrawn))


@pytest.mark.parametrize("redrawn", [True, False])
def test_an_end_that_another_numpy_drew_is_no_difference_and_with_the_same_numpy_it_is(redrawn):
    assert len(differences(redrawn, f1={"low": 0.2005})) == (0 if redrawn else 1)


@pytest.mark.parametrize(
    "told", [{"f1": {"low": 0.203}}, {"f1": {"accuracy": 0.2205}}, {"em": {"low": 0.0801}}, {"f1": {"high": None}}]
)
def test_what_is_further_off_or_was_never_drawn_differs(told):
    assert len(differences(**told)) == 1


@pytest.mark.parametrize(
    ("made", "moved"),
    [
        (b"bridged,0.220,[0.200, 0.242],p 1e-05", True),
        (b"bridged,0.220,[0.190, 0.242],p 1e-05", False),
        (b"bridged,0.230,[0.199, 0.242],p 1e-05", False),
        (b"shuffled,0.220,[0.199, 0.242],p 1e-05", False),
        (b"bridged,0.220,[0.199, 0.242],p 1e-05,1", False),
    ],
)
def test_of_a_table_the_ends_may_move_and_nothing_else(made, moved):
    assert _ends_moved(b"bridged,0.220,[0.199, 0.242],p 1e-05", made) == moved
