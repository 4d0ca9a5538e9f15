"""paper_tables.py with the counts of all networks, and plot_tradeoff.py."""

import json
import re
import runpy
import shutil
import sys

import cv2
import paper_tables
import plot_tradeoff
import pytest

from mmcnnmod.analysis.counting import read_counts
from mmcnnmod.analysis.paper import PRINTED_NUMBERS, load_tables

from ...utils.tasks import ROOT, tail

TOOL = ROOT / 'tools/analysis_tools/paper_tables.py'
PLOT = ROOT / 'tools/analysis_tools/plot_tradeoff.py'
MISPRINTS = {  # table, config, number
    (1, 'resnet101_in1k', 'macs'),
    (4, 'faster-rcnn_r50-mod_fpn_voc0712', 'macs'),
    (7, 'resnet34_in1k', 'params'),
    (7, 'resnet18_in1k', 'params'),
    (7, 'resnet18_in1k', 'macs'),
    (7, 'resnet18-mod_in1k', 'macs'),
    (9, 'resnet34_cifar10', 'macs'),
    (9, 'resnet50-mod_cifar100', 'params'),
}
SPEED = {
    'machine': 'a machine', 'date': 'a day', 'versions': {},
    'results': [
        dict(config=config, device='cpu', runtime='eager', batch_size=1, dtype='float32',
             median_ms=ms)
        for config, ms in (('mobilenet-v2_in1k', 30.0), ('mobilenet-v2-mod_in1k', 20.0))
    ],
}  # fmt: skip


@pytest.fixture(scope='module')
def all_tables(run_python, tmp_path_factory):
    """Run the tool once for all networks; returns its stdout and the folder with its files."""
    folder = tmp_path_factory.mktemp('all_tables')
    shutil.copy(ROOT / 'docs/models.md', folder)
    result = run_python(
        TOOL, '--check', '--json', 'counts.json', '--write', 'models.md', cwd=folder
    )
    assert result.returncode == 0, tail(result)
    return result.stdout, folder


def test_counts_reproduce_the_paper(all_tables):
    printed, folder = all_tables
    content = json.loads((folder / 'counts.json').read_text())
    verdicts = {
        (table['number'], row['config'], name): row[name]['verdict']
        for table in content['tables']
        for row in table['rows']
        for name in ('params', 'macs')
        if name in row
    }
    assert len(verdicts) == 2 * 45 - 1  # the dense Faster R-CNN has no ratio to itself
    assert {key for key, verdict in verdicts.items() if verdict == 'misprint'} == MISPRINTS
    assert 'disagrees' not in verdicts.values()
    for (table, config, name), verdict in verdicts.items():
        if verdict == 'close':
            assert (table, name) == (9, 'macs')
            assert config.startswith('resnet')
    assert f'{list(verdicts.values()).count("agrees")}/89 values agree' in printed


def test_table_9_agrees_with_relus_counted_once(all_tables):
    """Its numbers 1160 and 1310 have three digits: 1.16 and 1.31 GMAC."""
    _, folder = all_tables
    counts = read_counts(folder / 'counts.json')
    (table,) = (table for table in load_tables() if table.number == 9)
    for row in table.rows:
        if row.config.startswith('resnet'):
            count, expected = counts[row.config], row.expected('macs')
            digits = -1 if len(expected) == 4 else 0
            assert round((count.macs - count.relu_macs) / 1e6, digits) == float(expected)


def test_stdout_is_only_markdown(all_tables):
    printed, _ = all_tables
    lines = printed.splitlines()
    titles = [line for line in lines if line.startswith('#')]
    assert [title[:11] for title in titles] == [f'### Table {n}' for n in (1, 2, 3, 4, 7, 9)]
    assert lines[0].startswith('Counted on the built models')
    for line in lines[2:-1]:
        assert not line or line[0] in '#|-'


def test_models_page_is_up_to_date(all_tables):
    """Except for the line with date and versions."""
    _, folder = all_tables

    def rows(path):
        return [line for line in path.read_text().splitlines() if line.startswith('|')]

    assert rows(folder / 'models.md') == rows(ROOT / 'docs/models.md')


def test_figure_is_drawn_from_the_counts(all_tables, tmp_path, monkeypatch, capsys):
    _, folder = all_tables
    options = [f'{tmp_path}/figure.png', '--counts', f'{folder}/counts.json']
    monkeypatch.setattr(sys, 'argv', [str(PLOT), *options])
    runpy.run_path(str(PLOT), run_name='__main__')
    assert capsys.readouterr().out == f'written to {tmp_path}/figure.png\n'
    height, width, _ = cv2.imread(str(tmp_path / 'figure.png')).shape
    assert width > height > 500
    assert [path.name for path in tmp_path.iterdir()] == ['figure.png']


def test_wrong_network_fails_the_check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    path = tmp_path / 'configs/mobilenet-v2-mod_in1k.py'
    path.write_text(f'{path.read_text()}\nmodel["backbone"]["c"] = 8\n')
    (tmp_path / 'speed.json').write_text(json.dumps(SPEED))
    options = '--check --tables 2 --configs configs --speed speed.json --jobs 1'
    with pytest.raises(SystemExit) as exit:
        paper_tables.main(options.split())
    errors = exit.value.code.splitlines()
    assert [re.match(r'error: Table 2, (\S+), (\w+):', line).groups() for line in errors] == [
        ('mobilenet-v2-mod_in1k', 'params'),
        ('mobilenet-v2-mod_in1k', 'macs'),
    ]
    # The tables are printed nevertheless, with the times beside the paper's.
    printed = capsys.readouterr().out
    assert '4/6 values agree' in printed
    assert '| MobileNetV2-MoD | 20.00 | 1.50 | 33.43 | 1.43 |' in printed


def test_wrong_printed_value_fails_the_check(all_tables, tmp_path, monkeypatch):
    _, folder = all_tables
    counts = read_counts(folder / 'counts.json')
    text = PRINTED_NUMBERS.read_text(encoding='utf-8')
    assert text.count('"params": "23.10"') == 1
    changed = tmp_path / 'paper_tables.json'
    changed.write_text(text.replace('"params": "23.10"', '"params": "23.11"'), encoding='utf-8')
    monkeypatch.setattr(paper_tables, 'load_tables', lambda: load_tables(changed))
    monkeypatch.setattr(paper_tables, 'count_all', lambda *_: counts)
    with pytest.raises(SystemExit) as exit:
        paper_tables.main(['--check'])
    assert re.fullmatch(
        r'error: Table 1, resnet75-mod_in1k, params: 23\.11 is printed, 23\.10\d\d counted',
        exit.value.code,
    )


@pytest.mark.parametrize(
    ('tool', 'options', 'message'),
    [
        (paper_tables, ['--tables', '5'], '--tables 5: choose from 1, 2, 3, 4, 7, 9'),
        (paper_tables, ['--json', 'none/a.json'], 'the folder none does not exist'),
        (paper_tables, ['--speed', 'none.json'], 'none.json cannot be read'),
        (paper_tables, ['--write', 'bare.md'], 'bare.md must contain the line <!-- models'),
        (paper_tables, ['--write', 'twice.md'], 'twice.md must contain the line <!-- models'),
        (paper_tables, ['--configs', 'none'], 'config none/fcn_r50_cityscapes.py does not exist'),
        (plot_tradeoff, ['none/a.png'], 'the folder none does not exist'),
        (plot_tradeoff, ['a.png', '--results', 'none.json'], 'none.json cannot be read'),
        (plot_tradeoff, ['a.png', '--results', 'mixed.json'], 'these are on cifar10, in1k'),
        (plot_tradeoff, ['a.png', '--speed', 'speed.json', '--dtype', 'float16'], 'no times of'),
        (plot_tradeoff, ['a.png', '--counts', 'counts.json'], 'has no counts of resnet152-mod'),
    ],
)
def test_invalid_input_fails_with_one_line_before_counting(
    tool, options, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    results = [dict(config=f'net_{data}', top1=50) for data in ('in1k', 'cifar10')]
    (tmp_path / 'mixed.json').write_text(json.dumps({'results': results}))
    (tmp_path / 'speed.json').write_text(json.dumps(SPEED))
    (tmp_path / 'counts.json').write_text(json.dumps({'counts': {}}))
    (tmp_path / 'bare.md').write_text('no marks')
    (tmp_path / 'twice.md').write_text(2 * f'{paper_tables.BEGIN}{paper_tables.END}')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as exit:
        tool.main(options)
    assert exit.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('error: ')
    assert message in captured.err
    assert captured.err.count('\n') == 1
    assert sorted(tmp_path.iterdir()) == before
