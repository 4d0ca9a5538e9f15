"""Which blocks of a stage become MoD blocks (Section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence, Set

from ..errors import shown
from .checks import check_choice

PLACEMENTS = ('alternate', 'every')


class Placement:
    """The placement rule.

    Args:
        rule (str): 'alternate': every stage begins with a standard block, and every second block is
            an MoD block (Section 3.4). 'every': every block that keeps the shape of its input is
            an MoD block. Defaults to 'alternate'.
        stages (Sequence[int], optional): The stages with MoD blocks, counted from 0 as in
            ``out_indices``. Defaults to None, all stages.
        num_stages (int): The number of stages in the network. Defaults to 4.

    Raises:
        ValueError: If the rule or a stage is unknown.
    """

    def __init__(
        self, rule: str = 'alternate', stages: Sequence[int] | None = None, num_stages: int = 4
    ) -> None:
        check_choice('MoD', 'placement', rule, PLACEMENTS)
        self.rule = rule
        self.stages_given = stages is not None
        self.stages = range(num_stages) if stages is None else stages
        listed = isinstance(self.stages, (Sequence, Set)) and not isinstance(stages, str)
        if not listed or not self.stages:
            raise ValueError(f'MoD: stages must be a sequence such as (1, 2), got {shown(stages)}')
        for stage in self.stages:
            if isinstance(stage, bool) or stage not in range(num_stages):
                raise ValueError(
                    f'MoD: unknown stage {shown(stage)}; '
                    f'the network has stages 0 to {num_stages - 1}'
                )

    def positions(self, stage: int, keeps_shape: Sequence[bool]) -> list[int]:
        """The blocks of one stage that become MoD blocks.

        Args:
            stage (int): The stage, from 0.
            keeps_shape (Sequence[bool]): For each block, whether it keeps the shape of its input.

        Returns:
            list[int]: Positions in the stage, ascending.

        Raises:
            ValueError: If the stage is one of ``stages`` and has no such block.
        """
        if stage not in self.stages:
            return []
        step, start = (2, 1) if self.rule == 'alternate' else (1, 0)
        positions = [i for i in range(start, len(keeps_shape), step) if keeps_shape[i]]
        if self.stages_given and not positions:
            raise ValueError(
                f'MoD: stage {stage} was chosen, but none of its {len(keeps_shape)} block(s) '
                'can be an MoD block; leave it out'
            )
        return positions
