"""Accuracy against cost: a figure like the paper's Fig. 3."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# 'mobilenet-v2-mod-l': the family, perhaps a depth, and the variant.
NETWORK = re.compile(r'(?P<family>[^\d-]*(?:-v\d+)?)(?P<depth>\d*)(?P<variant>.*)')
FAMILIES = {
    'resnet': 'ResNet',
    'vgg': 'VGG',
    'mobilenet-v2': 'MobileNetV2',
    'convnext': 'ConvNeXt',
}
COLOURS = {False: 'tab:gray', True: 'tab:blue'}
MARKERS = 'osD^v'
# Positions of the labels, in points from their marker: on different sides, because a dense network
# and an MoD network are often close together.
LABELS = {False: dict(xytext=(4, -10), ha='left'), True: dict(xytext=(-3, 5), ha='right')}


@dataclass
class Network:
    """A network in the figure.

    Attributes:
        config (str): Name of its config.
        top1 (float): Accuracy in percent.
        costs (Mapping[str, float]): By panel; other panels do not show the network.
        family (str): The usual name of its family.
        is_mod (bool): Whether it has MoD blocks.
        label (str): Its label within its family: '50', '50-random', 'L'.
    """

    config: str
    top1: float
    costs: Mapping[str, float]

    def __post_init__(self) -> None:
        match = NETWORK.fullmatch(self.config.rpartition('_')[0] or self.config)
        words = [word for word in match['variant'].split('-') if word]
        label = [word.upper() if len(word) == 1 else word for word in words if word != 'mod']
        self.family = FAMILIES.get(match['family'], match['family'])
        self.is_mod = 'mod' in words
        self.label = '-'.join([match['depth'], *label] if match['depth'] else label)


def tradeoff(
    networks: Sequence[Network], panels: Mapping[str, str], title: str, accuracy: str
) -> Figure:
    """Draw accuracy against each of four costs.

    Args:
        networks (Sequence[Network]): All have the first panel's cost.
        panels (Mapping[str, str]): The axis labels of the four costs.
        title (str): Title of the figure.
        accuracy (str): Label of the accuracy axes.

    Returns:
        Figure: With a panel for each cost.
    """
    figure = Figure(figsize=(10, 7.2), layout='constrained')
    axes = list(figure.subplots(2, 2, sharey=True).flat)
    markers = dict(zip(sorted({x.family for x in networks}), cycle(MARKERS)))
    for panel, (cost, label), letter in zip(axes, panels.items(), 'abcd', strict=True):
        panel.set_title(f'({letter})', loc='left', fontsize=10)
        panel.set_xlabel(label, fontsize=9)
        panel.grid(color='0.92')
        panel.set_axisbelow(True)
        panel.margins(x=0.08, y=0.08)
        panel.spines[['top', 'right']].set_visible(False)
        shown = sorted((x for x in networks if cost in x.costs), key=lambda x: x.costs[cost])
        if not shown:
            panel.text(0.5, 0.5, 'not measured', transform=panel.transAxes, ha='center')
        for family, marker in markers.items():
            for is_mod in (False, True):
                series = [x for x in shown if (x.family, x.is_mod) == (family, is_mod)]
                if series:
                    draw_series(panel, series, cost, marker)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside lower center', ncols=4, frameon=False)
    figure.supylabel(accuracy, fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_series(panel: Axes, series: Sequence[Network], cost: str, marker: str) -> None:
    """Draw the labelled points of one family, either dense or with MoD."""
    family, is_mod = series[0].family, series[0].is_mod
    colour = COLOURS[is_mod]
    # The line connects the depths but no variants, such as random selection.
    depths = [x for x in series if x.label.isdigit()]
    panel.plot([x.costs[cost] for x in depths], [x.top1 for x in depths], color=colour, linewidth=1)
    panel.plot(
        [x.costs[cost] for x in series],
        [x.top1 for x in series],
        label=f'{family}-MoD' if is_mod else family,
        color=colour,
        linestyle='',
        marker=marker,
        markersize=5,
    )
    for network in series:
        panel.annotate(
            network.label,
            (network.costs[cost], network.top1),
            textcoords='offset points',
            fontsize=8,
            color=colour,
            **LABELS[is_mod],
        )
