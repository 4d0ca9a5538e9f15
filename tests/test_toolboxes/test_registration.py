"""Registration with one toolbox, with none, and with a broken one, in subprocesses."""

import subprocess
import sys
import textwrap

import pytest

from mmcnnmod.toolboxes import MINIMUM_VERSIONS, require

CLASSES = {
    'mmpretrain': ['ResNetMoD', 'ResNetV1cMoD', 'ResNetV1dMoD', 'ResNetMoD_CIFAR'],
    'mmseg': ['ResNetMoD', 'ResNetV1cMoD', 'ResNetV1dMoD'],
    'mmdet': ['ResNetMoD', 'ResNetV1dMoD'],
}
HIDE = """
import sys
for name in {hidden}:
    sys.modules[name] = None
"""


def run(code, hidden=(), python=None):
    """Run Python without some toolboxes; ``python`` is the fixture run_python."""
    script = HIDE.format(hidden=list(hidden)) + textwrap.dedent(code)
    if python:
        return python('-c', script, forget=list(MINIMUM_VERSIONS))
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script], capture_output=True, text=True, timeout=300
    )


@pytest.mark.smoke
def test_registration_with_one_toolbox(toolbox):
    hidden = set(MINIMUM_VERSIONS) - {toolbox}
    result = run(
        f"""
        import mmcnnmod, torch
        from {toolbox}.registry import MODELS
        for name in {CLASSES[toolbox]}:
            network = MODELS.build(dict(type=name, depth=18, base_channels=16, stem_channels=16))
            assert network(torch.rand(2, 3, 64, 64))[-1].shape[1] == 128
        assert not [name for name in {sorted(hidden)} if sys.modules[name] is not None]
        """,
        hidden,
    )
    assert result.returncode == 0, result.stderr
    assert 'skipped' not in result.stderr  # there is no warning for absent toolboxes


def test_layers_work_without_toolboxes(run_python):
    result = run(
        """
        import mmcnnmod, torch
        from mmcnnmod.layers import MoDBlock, bottleneck
        assert MoDBlock(64, bottleneck)(torch.rand(2, 64, 4, 4)).shape == (2, 64, 4, 4)
        from mmcnnmod.toolboxes import require
        try:
            require('mmseg')
        except ImportError as error:
            assert 'mmseg is not installed' in str(error), error
        else:
            raise SystemExit('no error')
        """,
        MINIMUM_VERSIONS,
        run_python,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ('cause', 'remedy'),
    [
        ("ImportError('mmcv/_ext.so: undefined symbol: _ZN2at4_ops')", 'rebuild'),
        ('ModuleNotFoundError("No module named \'mmcv._ext\'")', 'full mmcv'),
        ("AssertionError('MMCV==1.7.0 is used but incompatible')", 'version table'),
        ("ImportError('cannot import name MODELS')", 'mmcnnmod needs mmdet >= 3.0.0'),
    ],
)
def test_broken_toolbox_is_logged_and_skipped(run_python, tmp_path, cause, remedy):
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet' / '__init__.py').write_text(f'raise {cause}\n')
    result = run(
        f"""
        sys.path.insert(0, {str(tmp_path)!r})
        import mmcnnmod
        from mmcnnmod.toolboxes import require
        try:
            require('mmdet')
        except ImportError as error:
            print(error)
        """,
        ['mmpretrain', 'mmseg'],
        run_python,
    )
    assert result.returncode == 0, result.stderr
    assert 'skipped: mmdet cannot be imported' in result.stderr
    assert remedy in result.stdout
    assert len(result.stdout.strip().splitlines()) == 1


def test_unknown_scope_is_an_error():
    with pytest.raises(ImportError, match="default_scope is 'mmnothing', which cannot be imported"):
        require('mmnothing')
