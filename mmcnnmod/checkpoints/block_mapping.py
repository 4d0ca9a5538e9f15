"""Which block of a dense stage each standard block of an MoD stage starts from.

The standard blocks of an MoD stage stand at the places 0, 2, 4, ... They are rarely as many as the
dense stage's blocks: ResNet-50's third stage has 6 blocks, that of ResNet-50-MoD has 3 standard
blocks and that of ResNet-75-MoD has 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def first(places: Sequence[int], blocks: int) -> list[int]:
    """First from first, second from second and so on; once they run out, from the last."""
    return [min(i, blocks - 1) for i in range(len(places))]


def same(places: Sequence[int], blocks: int) -> list[int]:
    """From the block at the same place; where there is none, from the last."""
    return [min(place, blocks - 1) for place in places]


def spread(places: Sequence[int], blocks: int) -> list[int]:
    """First from first, last from last, those between from evenly spread blocks."""
    gaps = max(len(places) - 1, 1)
    return [round(i * (blocks - 1) / gaps) for i in range(len(places))]


MAPPINGS: dict[str, Callable[[Sequence[int], int], list[int]]] = {
    'first': first,
    'same': same,
    'spread': spread,
}


def map_blocks(
    places: Sequence[Sequence[int]], blocks: Sequence[int], mapping: str
) -> dict[tuple[int, int], int]:
    """Map all stages.

    Args:
        places (Sequence[Sequence[int]]): For each stage where its standard blocks stand.
        blocks (Sequence[int]): For each stage of the dense network how many blocks it has.
        mapping (str): A key of ``MAPPINGS``.

    Returns:
        dict[tuple[int, int], int]: Stage (from 1) and place to the block of the same stage. Stages
        that the dense network does not have are left out.
    """
    return {
        (stage, place): block
        for stage, (own, count) in enumerate(zip(places, blocks, strict=False), start=1)
        for place, block in zip(own, MAPPINGS[mapping](own, count), strict=True)
    }


def repeated(plan: dict[tuple[int, int], int]) -> list[tuple[int, int]]:
    """The standard blocks whose dense block has started an earlier one already."""
    seen = set()
    return [
        (stage, place)
        for (stage, place), block in plan.items()
        if (stage, block) in seen or seen.add((stage, block))
    ]
