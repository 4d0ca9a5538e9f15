"""The page says what was run, and what was not."""

from dataclasses import replace

import pytest

from mmcnnmod.evidence import Results
from mmcnnmod.evidence.figures import learning_curves, score_against_macs
from mmcnnmod.evidence.page import page
from mmcnnmod.evidence.summary import summaries

from .test_results import make_plan, make_run


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
    text = page([results], {'p': {'results/p.png': 'curves'}}, 'there')
    assert row(text, 'R34') == [
        'R34', '2.00', '3', '2 of 3', '91.00 ± 1.41', '-', '0:00:08', '100'
    ]  # fmt: skip
    assert row(text, 'MoD') == ['MoD', '-', '-', '0 of 3', 'not run', '-', '-', '-']
    assert '![curves](results/p.png)' in text
    assert 'GPU busy 85% of the time' in text
    results.add(make_run('MoD', 0, 90.0), None)
    assert row(page([results], {}, ''), 'MoD')[4:6] == ['90.00', '-1.00 to R34']
    results.add(make_run('MoD', 1, 92.0), None)
    # Two runs are too few to tell how much they deviate.
    assert row(page([results], {}, ''), 'MoD')[5] == '+0.00 to R34'
    for arm, score in (('R34', 94.0), ('MoD', 97.0)):
        results.add(make_run(arm, 2, score), None)
    # 92 and 93, with variances of 4 and 13.
    assert row(page([results], {}, ''), 'MoD')[5] == '+1.00 to R34 (0.3 deviations)'


def test_scores_may_be_given_in_percent(tmp_path):
    results = Results(tmp_path, replace(make_plan(), scale=100.0))
    results.add(make_run('R34', 0, 0.8442), None)
    text = page([results], {}, 'there')
    assert row(text, 'R34')[4] == '84.42'
    assert '| top1 x 100 |' in text
    (panel,) = learning_curves(results.plan, summaries(results)).axes
    assert panel.lines[0].get_ydata()[-1] == pytest.approx(84.42)


def test_a_plan_without_runs_says_so(tmp_path):
    text = page([Results(tmp_path, make_plan())], {}, 'there')
    assert '- Title, plan `p.yml`: not run' in text
    assert '## Title' not in text


def test_what_the_results_mean_comes_first(results):
    text = page([results], {}, 'there', 'They mean nothing.')
    assert text.index('They mean nothing.') < text.index('- [Title](#title): 2 of 6 runs')


def test_figures_show_what_was_run(results):
    arms = summaries(results)
    (panel,) = learning_curves(results.plan, arms).axes
    (line,) = panel.lines
    assert line.get_label() == 'R34'
    assert line.get_xydata().tolist() == [[1, 82], [2, 91]]
    (panel,) = score_against_macs(results.plan, arms).axes
    assert [text.get_text() for text in panel.texts] == ['R34']
