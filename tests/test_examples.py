"""The programs in examples/ run, scaled down."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / 'examples/swap_train_look.py'


def test_swap_train_look(run_python, tmp_path):
    pytest.importorskip('mmpretrain')
    small = ['--train', '16', '--val', '8', '--epochs', '1']
    result = run_python(EXAMPLE, '--work-dir', tmp_path, *small, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    before, after = (
        int(number.replace(',', '')) for number in re.findall(r'parameters: (.+)', result.stdout)
    )
    assert 0 < after < before / 2
    assert 'ResNet_CIFAR -> ResNetMoD_CIFAR' in result.stdout
    assert (tmp_path / 'epoch_1.pth').is_file()
    assert (tmp_path / 'channel_usage_layer3.1.png').stat().st_size > 0


def test_a_failing_step_ends_the_example(run_python, tmp_path):
    result = run_python(EXAMPLE, '--work-dir', tmp_path, '--train', '1', cwd=tmp_path)
    assert result.returncode == 2
    assert 'error: argument --train: 4 classes need at least as many pictures' in result.stderr
    assert '2/5' not in result.stdout
