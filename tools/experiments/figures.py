"""Figures of the report: learning curves, and scores against MACs."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plan import Plan
from results import Summary

COLOURS = colormaps['tab10'].colors
STYLES = ('-', '--', ':')


def learning_curves(plan: Plan, arms: Mapping[str, Summary]) -> Figure:
    """The mean and range of the score over the seeds during training, of arms with runs."""
    figure, panel = new_figure(plan, 'epoch or iteration')
    for i, (name, arm) in enumerate(arms.items()):
        if not arm.runs:
            continue
        steps, middle, low, high = mean_and_range([run['curve'] for run in arm.runs])
        style = dict(color=COLOURS[i % len(COLOURS)], label=name)
        panel.plot(
            steps, middle, marker='.', linestyle=STYLES[i // len(COLOURS) % len(STYLES)], **style
        )
        if len(arm.runs) > 1:
            panel.fill_between(steps, low, high, color=style['color'], alpha=0.15, linewidth=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(fontsize=8, frameon=False, loc='lower right')
    return figure


def score_against_macs(plan: Plan, arms: Mapping[str, Summary]) -> Figure:
    """The score against MACs, with standard deviations, of arms with runs and MACs.

    A line joins each arm and its baseline.
    """
    figure, panel = new_figure(plan, 'GMAC per image')
    points = {
        name: (arm.cost['macs'] / 1e9, arm.mean)
        for name, arm in arms.items()
        if arm.runs and arm.cost
    }
    for i, (name, point) in enumerate(points.items()):
        colour = COLOURS[i % len(COLOURS)]
        if arms[name].arm.baseline in points:
            panel.plot(*zip(points[arms[name].arm.baseline], point, strict=True), color='0.8')
        panel.errorbar(*point, yerr=arms[name].deviation, fmt='o', color=colour, capsize=3)
        panel.annotate(
            name, point, xytext=(5, 4), textcoords='offset points', fontsize=8, color=colour
        )
    panel.margins(0.15)
    return figure


def new_figure(plan: Plan, label: str) -> tuple[Figure, Axes]:
    """A figure with an empty panel that has a title and labels."""
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    panel = figure.subplots()
    panel.set_title(plan.title, fontsize=10)
    panel.set_xlabel(label, fontsize=9)
    panel.set_ylabel(plan.score, fontsize=9)
    panel.grid(color='0.92')
    panel.set_axisbelow(True)
    panel.spines[['top', 'right']].set_visible(False)
    return figure, panel


def mean_and_range(curves: list[list]) -> tuple[list, list[float], list[float], list[float]]:
    """The steps that all curves contain, and the mean, lowest and highest score at each step."""
    tables = [dict(curve) for curve in curves]
    steps = [step for step in tables[0] if all(step in table for table in tables)]
    columns = [[table[step] for table in tables] for step in steps]
    return steps, [mean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns]
