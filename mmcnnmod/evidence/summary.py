"""What several runs of an arm say together, and how it stands against its baseline."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev

from .plan import Arm
from .results import Results

# With fewer runs a deviation says next to nothing.
ENOUGH = 3


@dataclass(frozen=True)
class Summary:
    """The runs of one arm.

    Attributes:
        arm (Arm): The arm.
        runs (list[dict]): Those that are done, by seed, their scores scaled as the plan says.
        planned (int): How many seeds the plan has.
        cost (dict): 'params' and 'macs'; empty if they were not counted.
    """

    arm: Arm
    runs: list[dict]
    planned: int
    cost: dict

    @property
    def scores(self) -> list[float]:
        """Of the runs that are done."""
        return [run['score'] for run in self.runs]

    @property
    def mean(self) -> float:
        """Of the scores; there must be one."""
        return mean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Of the sample (n - 1); None with fewer than two runs."""
        return stdev(self.scores) if len(self.scores) > 1 else None

    def against(self, baseline: Summary) -> tuple[float, float | None]:
        """How much higher the mean is than a baseline's, also in deviations.

        Args:
            baseline (Summary): With at least one run, as this one.

        Returns:
            tuple[float, float | None]: The difference, and the difference divided by the root of
            the mean of both variances; None where there are fewer than three runs, or no deviation.
        """
        difference = self.mean - baseline.mean
        deviations = (self.deviation, baseline.deviation)
        if min(len(self.runs), len(baseline.runs)) < ENOUGH or not any(deviations):
            return difference, None
        return difference, difference / mean(d**2 for d in deviations) ** 0.5


def summaries(results: Results) -> dict[str, Summary]:
    """Each arm of a plan, whether it was run or not.

    Args:
        results (Results): Of the plan; runs of arms and seeds that it no longer has are left out.

    Returns:
        dict[str, Summary]: By the arm's name, in the plan's order.
    """
    plan = results.plan
    return {
        name: Summary(
            arm,
            [scaled(run, plan.scale) for run in results.of(name) if run['seed'] in plan.seeds],
            len(plan.seeds),
            results.costs.get(name, {}),
        )
        for name, arm in plan.arms.items()
    }


def scaled(run: dict, scale: float) -> dict:
    """A run with its scores multiplied."""
    curve = [[step, scale * score] for step, score in run['curve']]
    return {**run, 'score': scale * run['score'], 'curve': curve}
