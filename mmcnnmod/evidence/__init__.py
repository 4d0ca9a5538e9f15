"""Plans of training runs, what is known of each run, and the page that tells the results."""

from .plan import Arm, Plan, Run, read_plan, read_runs
from .results import Results

__all__ = ['Arm', 'Plan', 'Results', 'Run', 'read_plan', 'read_runs']
