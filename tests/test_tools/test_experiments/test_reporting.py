"""The report says what was run, and what was not."""

from dataclasses import replace
from pathlib import Path

import pytest
from figures import learning_curves, mean_and_range, score_against_macs
from plan import read_plan
from reporting import PLANS, main, report
from results import Results, summaries

from ...utils.experiments import make_plan, make_run
from ...utils.tasks import ROOT

PATH = Path('configs/p.yml')


@pytest.fixture
def results(tmp_path):
    results = Results(tmp_path, make_plan())
    results.add(make_run('R34', 0, 90.0, gpu_busy_percent=85), dict(params=2e6, macs=3e9))
    results.add(make_run('R34', 1, 92.0, seconds=20.0), None)
    return results


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f'| {name} |')]
    return [cell.strip() for cell in line.split('|')[1:-1]]


def test_rows(results):
    text = report([results], [PATH], {'p': {'results/p.png': 'curves'}}, 'there')
    assert row(text, 'R34') == [
        'R34', '2.00', '3', '2 of 3', '91.00 ± 1.41', '-', '0:00:08', '100'
    ]  # fmt: skip
    assert row(text, 'MoD') == ['MoD', '-', '-', '0 of 3', 'not run', '-', '-', '-']
    assert '![curves](results/p.png)' in text
    assert 'GPU busy 85% of the time' in text
    results.add(make_run('MoD', 0, 90.0), None)
    assert row(report([results], [PATH], {}, ''), 'MoD')[4:6] == ['90.00', '-1.00 to R34']
    results.add(make_run('MoD', 1, 92.0), None)
    # Two runs are too few to tell how much they deviate.
    assert row(report([results], [PATH], {}, ''), 'MoD')[5] == '+0.00 to R34'
    for arm, score in (('R34', 94.0), ('MoD', 97.0)):
        results.add(make_run(arm, 2, score), None)
    # 92 and 93, with variances of 4 and 13.
    assert row(report([results], [PATH], {}, ''), 'MoD')[5] == '+1.00 to R34 (0.3 deviations)'


def test_scores_may_be_given_in_percent(tmp_path):
    results = Results(tmp_path, replace(make_plan(), scale=100.0))
    results.add(make_run('R34', 0, 0.8442), None)
    text = report([results], [PATH], {}, 'there')
    assert row(text, 'R34')[4] == '84.42'
    assert '| top1 x 100 |' in text
    (panel,) = learning_curves(results.plan, summaries(results)).axes
    assert panel.lines[0].get_ydata()[-1] == pytest.approx(84.42)


def test_a_plan_without_runs_is_listed_with_its_command(tmp_path):
    for path in (PATH, ROOT / PATH):
        text = report([Results(tmp_path, make_plan())], [path], {}, 'there')
        planned = text.split('Planned and not run yet:')[1]
        assert '- Title: `python tools/experiments/run.py configs/p.yml`' in planned
        assert '## Title' not in text
    assert 'not run' not in text.replace(planned, '').replace('Planned and not run yet:', '')


def test_a_tested_plan_says_so(tmp_path):
    results = Results(tmp_path, replace(make_plan(), test=True))
    results.add({**make_run('R34', 0, 90.0), 'curve': []}, None)
    text = report([results], [PATH], {}, 'there')
    assert 'The score is that of a test' in text
    assert row(text, 'R34')[4] == '90.00'


def test_what_the_results_mean_comes_first(results):
    text = report([results], [PATH], {}, 'there', 'They mean nothing.')
    assert text.index('They mean nothing.') < text.index('- [Title](#title): 2 of 6 runs')


def test_figures_show_what_was_run(results):
    arms = summaries(results)
    (panel,) = learning_curves(results.plan, arms).axes
    (line,) = panel.lines
    assert line.get_label() == 'R34'
    assert line.get_xydata().tolist() == [[1, 82], [2, 91]]
    (panel,) = score_against_macs(results.plan, arms).axes
    assert [text.get_text() for text in panel.texts] == ['R34']


def test_a_mean_curve_has_the_steps_that_all_have():
    steps, middle, low, high = mean_and_range([[[1, 2.0], [2, 4.0]], [[2, 8.0], [3, 9.0]]])
    assert (steps, middle, low, high) == ([2], [6.0], [4.0], [8.0])


def test_the_committed_report_is_what_the_results_say(tmp_path, monkeypatch):
    """tools/experiments/report.py was run after the last change."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/experiments').symlink_to(ROOT / 'docs/results/experiments')
    main(['--results', 'results/experiments', '--out', 'results.md'])
    assert (tmp_path / 'results.md').read_text() == (ROOT / 'docs/results.md').read_text()
    drawn = {path.name for path in (tmp_path / 'results').glob('*.png')}
    assert drawn == {path.name for path in (ROOT / 'docs/results').glob('*.png')}


def test_every_plan_has_its_place_in_the_report():
    choices = {'gpu_short'}
    plans = {path.stem for path in (ROOT / 'configs/experiments').glob('*.yml')}
    assert plans - choices == set(PLANS)
    assert all(read_plan(ROOT / f'configs/experiments/{name}.yml').arms for name in PLANS)


def test_a_missing_folder_of_results_is_named(tmp_path, fails):
    line = fails(main, '--results', tmp_path / 'none', '--out', tmp_path / 'report.md')
    assert 'does not exist' in line
    assert not (tmp_path / 'report.md').exists()
