"""The report has the results of plans, and commands for plans without results."""

from dataclasses import replace
from pathlib import Path

import pytest
from figures import learning_curves, mean_and_range, score_against_macs
from plan import read_plan
from report import PLANS, main, report
from results import Results, summaries

from ...utils.experiments import make_plan, make_run
from ...utils.tasks import ROOT


@pytest.fixture
def results(tmp_path):
    results = Results(tmp_path, make_plan())
    results.add(make_run('R34', 0, 90.0, gpu_busy_percent=85), dict(params=2e6, macs=3e9))
    results.add(make_run('R34', 1, 92.0, seconds=20.0), None)
    return results


def report_row(results, name):
    """The row of the table for an arm."""
    text = report([results], {}, 'this folder')
    (line,) = [line for line in text.splitlines() if line.startswith(f'| {name} |')]
    return [cell.strip() for cell in line.split('|')[1:-1]]


def test_rows_have_mean_deviation_and_difference(results):
    assert report_row(results, 'R34') == [
        'R34', '2.00', '3', '2 of 3', '91.00 ± 1.41', '-', '0:00:08', '100'
    ]  # fmt: skip
    assert report_row(results, 'MoD') == ['MoD', '-', '-', '0 of 3', 'not run', '-', '-', '-']
    results.add(make_run('MoD', 0, 90.0), None)
    assert report_row(results, 'MoD')[4:6] == ['90.00', '-1.00 to R34']
    results.add(make_run('MoD', 1, 92.0), None)
    # With two runs, the difference is not given in deviations.
    assert report_row(results, 'MoD')[5] == '+0.00 to R34'
    for arm, score in (('R34', 94.0), ('MoD', 97.0)):
        results.add(make_run(arm, 2, score), None)
    # The means are 92 and 93, the variances 4 and 13.
    assert report_row(results, 'MoD')[5] == '+1.00 to R34 (0.3 deviations)'


def test_scores_are_scaled(tmp_path):
    results = Results(tmp_path, make_plan(scale=100.0))
    results.add(make_run('R34', 0, 0.8442), None)
    assert report_row(results, 'R34')[4] == '84.42'
    assert '| top1 x 100 |' in report([results], {}, 'this folder')
    (panel,) = learning_curves(results.plan, summaries(results)).axes
    assert panel.lines[0].get_ydata()[-1] == pytest.approx(84.42)


def test_plan_without_runs_is_listed_with_its_command(tmp_path):
    for folder in (Path(), ROOT):
        plan = make_plan()
        plan = replace(plan, path=folder / plan.path)
        text, planned = report([Results(tmp_path, plan)], {}, 'this folder').split('not run yet:')
        assert '- Title: `python tools/experiments/run.py configs/p.yml`' in planned
        assert '## Title' not in planned
        assert 'not run' not in text


def test_score_of_a_test_is_described(tmp_path):
    results = Results(tmp_path, make_plan(test=True))
    results.add({**make_run('R34', 0, 90.0), 'curve': []}, None)
    assert 'The score is that of a test' in report([results], {}, 'this folder')
    assert report_row(results, 'R34')[4] == '90.00'


def test_conclusions_come_before_figures_and_machines(results):
    text = report([results], {'p': {'results/p.png': 'curves'}}, 'this folder', 'It is better.')
    parts = ['It is better.', '- [Title](#title): 2 of 6 runs', 'GPU busy 85% of the time',
             '![curves](results/p.png)']  # fmt: skip
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)


def test_figures_show_arms_with_runs(results):
    arms = summaries(results)
    (panel,) = learning_curves(results.plan, arms).axes
    (line,) = panel.lines
    assert line.get_label() == 'R34'
    assert line.get_xydata().tolist() == [[1, 82], [2, 91]]
    (panel,) = score_against_macs(results.plan, arms).axes
    assert [text.get_text() for text in panel.texts] == ['R34']


def test_mean_curve_has_the_steps_of_all_curves():
    steps, middle, low, high = mean_and_range([[[1, 2.0], [2, 4.0]], [[2, 8.0], [3, 9.0]]])
    assert (steps, middle, low, high) == ([2], [6.0], [4.0], [8.0])


def test_committed_report_is_up_to_date(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/experiments').symlink_to(ROOT / 'docs/results/experiments')
    main(['--results', 'results/experiments', '--out', 'results.md'])
    assert (tmp_path / 'results.md').read_text() == (ROOT / 'docs/results.md').read_text()
    drawn = {path.name for path in (tmp_path / 'results').glob('*.png')}
    assert drawn == {path.name for path in (ROOT / 'docs/results').glob('*.png')}


def test_report_contains_all_plans_but_selections():
    selections = {'gpu_short'}
    plans = {path.stem for path in (ROOT / 'configs/experiments').glob('*.yml')}
    assert plans - selections == set(PLANS)
    assert all(read_plan(ROOT / f'configs/experiments/{name}.yml').arms for name in PLANS)


def test_report_without_results_is_not_written(tmp_path, fails):
    line = fails(main, '--results', tmp_path / 'none', '--out', tmp_path / 'report.md')
    assert f'{tmp_path}/none contains no results of these plans' in line
    assert not (tmp_path / 'report.md').exists()
