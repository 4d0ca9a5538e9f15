"""Section 3.4: which blocks of a stage become MoD blocks."""

import pytest

from mmcnnmod.layers import Placement

SIX_BLOCKS = [False, True, True, True, True, True]  # the first one changes the shape


@pytest.mark.parametrize(
    ('rule', 'keeps_shape', 'positions'),
    [
        ('alternate', SIX_BLOCKS, [1, 3, 5]),
        ('alternate', [True] * 3, [1]),
        ('alternate', [True], []),
        ('alternate', [False, False, True, True], [3]),
        ('every', SIX_BLOCKS, [1, 2, 3, 4, 5]),
        ('every', [True] * 3, [0, 1, 2]),
    ],
)
def test_positions(rule, keeps_shape, positions):
    assert Placement(rule).positions(0, keeps_shape) == positions


def test_only_chosen_stages():
    placement = Placement(stages=[1, 3])
    positions = [placement.positions(stage, SIX_BLOCKS) for stage in range(4)]
    assert positions == [[], [1, 3, 5], [], [1, 3, 5]]


@pytest.mark.parametrize('stage', [4, -1, True, 'last', 1.5])
def test_unknown_stage(stage):
    with pytest.raises(ValueError, match=r'unknown stage .* stages 0 to 3'):
        Placement(stages=[0, stage])


def test_unknown_rule():
    with pytest.raises(ValueError, match="unknown placement 'third'; choose from alternate, every"):
        Placement('third')


def test_chosen_stage_without_mod_blocks():
    with pytest.raises(ValueError, match='stage 2 was chosen, but none of its 1 block'):
        Placement(stages=[2]).positions(2, [True])


@pytest.mark.parametrize('stages', [3, ()])
def test_stages_must_be_a_sequence(stages):
    with pytest.raises(ValueError, match=r'must be a sequence such as \(1, 2\), got [3(]'):
        Placement(stages=stages)
