"""Write channel usage as a table, and as a picture like the paper's Fig. 4."""

from __future__ import annotations

import csv
from math import ceil
from pathlib import Path

from matplotlib.figure import Figure

from ..files import atomic_write
from .channel_usage import ChannelUsage

CSV_HEADER = ('class', 'images', 'channel', 'times_selected', 'percent_of_all_selections')
PANEL_INCHES = (5.0, 1.9)
PANEL_POINTS = 300  # roughly the width of the axes


def save_csv(usage: ChannelUsage, path: Path) -> None:
    """Write one row for each class and channel, completely or not at all."""
    with atomic_write(path) as partial, partial.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(CSV_HEADER)
        rows = zip(usage.groups, usage.images, usage.counts, usage.percentages(), strict=True)
        for group, images, counts, percentages in rows:
            for channel, (count, percent) in enumerate(zip(counts, percentages, strict=True)):
                writer.writerow((group, int(images), channel, int(count), f'{percent:.4f}'))


def save_picture(usage: ChannelUsage, path: Path) -> None:
    """Draw a panel for each group of images and write a PNG, completely or not at all."""
    columns = min(2, len(usage.groups))
    rows = ceil(len(usage.groups) / columns)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(columns * width, rows * height + 0.8), layout='constrained')
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    always = 100 / usage.k
    linewidth = min(max(0.7 * PANEL_POINTS / usage.channels, 0.6), 6)
    for group, images, percentages, panel in zip(
        usage.groups, usage.images, usage.percentages(), panels, strict=False
    ):
        panel.axhline(always, color='0.6', linewidth=0.8, linestyle='--')
        panel.vlines(range(usage.channels), 0, percentages, color='tab:blue', linewidth=linewidth)
        panel.set_title(f'{group.split(",")[0]} (images: {int(images)})', fontsize=10)
        panel.set(xlim=(-1, usage.channels), ylim=(0, 1.08 * always))
        panel.spines[['top', 'right']].set_visible(False)
    for panel in panels:  # the rest of the last row
        panel.set_visible(False)
    figure.suptitle(
        f'{usage.block}: {usage.k} of {usage.channels} channels selected per image\n'
        f'(dashed: selected in every image, {always:.3g}%)',
        fontsize=11,
    )
    figure.supxlabel('channel', fontsize=10)
    figure.supylabel('% of all selections in the block', fontsize=10)
    with atomic_write(path) as partial:
        figure.savefig(partial, format='png', dpi=150)
