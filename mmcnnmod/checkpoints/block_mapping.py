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
    own: Sequence[Sequence[tuple[int, str]]], dense: Sequence[Sequence[str]], mapping: str
) -> dict[str, str]:
    """Map all stages.

    Args:
        own (Sequence[Sequence[tuple[int, str]]]): For each stage the places and names of its
            standard blocks.
        dense (Sequence[Sequence[str]]): For each stage of the dense network the names of its
            blocks.
        mapping (str): A key of ``MAPPINGS``.

    Returns:
        dict[str, str]: The name of each standard block to that of the dense block from which it
        starts. Stages that the dense network does not have are left out.
    """
    return {
        name: blocks[block]
        for standard, blocks in zip(own, dense, strict=False)
        for (_, name), block in zip(
            standard, MAPPINGS[mapping]([place for place, _ in standard], len(blocks)), strict=True
        )
    }


def repeated(plan: dict[str, str]) -> list[str]:
    """The standard blocks whose dense block has started an earlier one already."""
    seen = set()
    return [name for name, block in plan.items() if block in seen or seen.add(block)]
