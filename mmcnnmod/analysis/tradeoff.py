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
# Where labels are, in points from their marker: on different sides, because the points of a
# dense network and an MoD network are often near each other.
LABELS = {False: dict(xytext=(4, -10), ha='left'), True: dict(xytext=(-3, 5), ha='right')}


@dataclass
class Network:
    """A network in the plot.

    Attributes:
        config (str): Name of its config.
        top1 (float): Accuracy in percent.
        costs (Mapping[str, float]): By panel; a panel that is not in it does not show the network.
        family (str): The family as people write it.
        is_mod (bool): Whether it has MoD blocks.
        label (str): What tells it from the others of its series: '50', '50-random', 'L'.
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
        networks (Sequence[Network]): The points; all have the first panel's cost.
        panels (Mapping[str, str]): The axis labels of the four costs.
        title (str): Of the whole figure.
        accuracy (str): Label of the accuracy axes.

    Returns:
        Figure: With a panel for each cost.
    """
    figure = Figure(figsize=(10, 7.2), layout='constrained')
    axes = list(figure.subplots(2, 2, sharey=True).flat)
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
        for family, marker in zip(sorted({x.family for x in networks}), cycle(MARKERS)):
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
    """Draw the points of one family, dense or with MoD, with their labels."""
    family, is_mod = series[0].family, series[0].is_mod
    # The line joins the depths; a variant, such as random selection, is beside it.
    depths = [x for x in series if x.label.isdigit()]
    line, points = (
        zip(*((x.costs[cost], x.top1) for x in part), strict=True) if part else ((), ())
        for part in (depths, series)
    )
    panel.plot(*line, color=COLOURS[is_mod], linewidth=1)
    style = dict(color=COLOURS[is_mod], linestyle='', marker=marker, markersize=5)
    panel.plot(*points, label=f'{family}-MoD' if is_mod else family, **style)
    for network in series:
        place = (network.costs[cost], network.top1)
        style = dict(textcoords='offset points', fontsize=8, color=COLOURS[is_mod])
        panel.annotate(network.label, place, **style, **LABELS[is_mod])
