"""Training and testing as programs: ours, the toolboxes' own, and several processes."""

import importlib.util
import re
import socket
from pathlib import Path

import pytest
import torch

from ..utils.mmengine_run import assert_same
from ..utils.tasks import ROOT, TASKS, arguments, newest_json, shrink, tail

LOSS = re.compile(r'\bloss: ([\d.]+)')


def read_losses(result):
    return [float(loss) for loss in LOSS.findall(result.stdout + result.stderr)]


@pytest.fixture
def run(run_python, tmp_path):
    """Run a program, which must succeed."""

    def run(program, *options, **env):
        result = run_python(program, *options, cwd=tmp_path, **env)
        assert result.returncode == 0, tail(result)
        return result

    return run


@pytest.fixture
def train(run, data):
    """Train a toolbox's task; returns what the program printed."""

    def train(toolbox, *options, cfg_options=()):
        command = arguments(toolbox, data, *options)
        return run(
            ROOT / 'tools/train.py', *command, '--cfg-options', *shrink(toolbox), *cfg_options
        )

    return train


@pytest.mark.smoke
def test_train_then_test(toolbox, trained, data, run, tmp_path):
    task = TASKS[toolbox]
    work_dir, result = trained(toolbox)
    assert result.returncode == 0, tail(result)
    assert len(read_losses(result)) >= 2
    assert all(loss > 0 for loss in read_losses(result))

    config, *options = arguments(toolbox, data, '--show-dir', 'show')
    out = tmp_path / ('label_maps' if toolbox == 'mmseg' else 'predictions.pkl')
    run(
        ROOT / 'tools/test.py', config, work_dir / task.checkpoint, *options, '--out', out,
        '--cfg-options', *shrink(toolbox),
    )  # fmt: skip
    assert any(key.endswith(task.metric) for key in newest_json(tmp_path / 'out'))
    assert out.exists()
    assert list(tmp_path.rglob('show/**/*.[jp][pn]g'))
    # The name must not be that of the config that training writes to the same folder.
    assert [path.name for path in tmp_path.glob('out/*.py')] == [f'test_{Path(config).name}']


def test_resume_skips_truncated_files(trained, train, tmp_path):
    """A killed run can leave a truncated checkpoint and a last_checkpoint that names no file."""
    out = tmp_path / 'out'
    out.mkdir()
    content = (trained('mmseg')[0] / 'iter_2.pth').read_bytes()
    (out / 'iter_2.pth').write_bytes(content)
    (out / 'iter_4.pth').write_bytes(content[: len(content) // 2])
    (out / 'last_checkpoint').write_text(str(out / 'iter_3.pth'))
    result = train('mmseg', '--resume', cfg_options=['train_cfg.max_iters=3'])
    assert 'iter_4.pth cannot be read' in result.stdout
    assert 'iter_3.pth does not exist' in result.stdout
    assert 'resumed epoch: 0, iter: 2' in result.stdout + result.stderr

    result = train('mmseg', '--resume', 'out/iter_3.pth', cfg_options=['train_cfg.max_iters=5'])
    assert 'resumed epoch: 0, iter: 3' in result.stdout + result.stderr
    assert len(read_losses(result)) == 2


@pytest.mark.slow
def test_seed_determines_weights_and_optimizer(toolbox, train, tmp_path):
    """With workers and random augmentation."""
    length = 'max_iters=6' if toolbox == 'mmseg' else 'max_epochs=3'
    options = [f'train_cfg.{length}', 'train_dataloader.num_workers=2']
    runs = []
    for seed in (3, 3, 4):
        train(toolbox, '--no-validate', cfg_options=[*options, f'randomness.seed={seed}'])
        path = (tmp_path / 'out/last_checkpoint').read_text()
        content = torch.load(path, weights_only=False)
        runs.append([content['state_dict'], content['optimizer']])
    assert content['optimizer']['state']
    first, same, other = runs
    assert_same(first, same)
    with pytest.raises(AssertionError):
        assert_same(first, other)


def toolbox_folder(toolbox):
    return Path(importlib.util.find_spec(toolbox).origin).parent / '.mim'


def without_persistent_workers(*splits):
    return [f'{split}_dataloader.persistent_workers=False' for split in splits]


def test_tools_of_the_toolboxes_run_our_configs(toolbox, data, run, tmp_path):
    task = TASKS[toolbox]
    # These tools have no --data-root: create the folder that the config names.
    default = {'scenes': 'street-scenes', 'voc': 'VOCdevkit'}.get(task.data, task.data)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / default).symlink_to(data / task.data)
    options = ['--no-pin-memory'] if toolbox == 'mmpretrain' else []
    options += ['--work-dir', 'out', '--cfg-options', *shrink(toolbox)]
    options += without_persistent_workers('train', 'val', 'test')
    tools = toolbox_folder(toolbox) / 'tools'
    result = run(tools / 'train.py', ROOT / task.config, *options)
    assert len(read_losses(result)) >= 2
    result = run(tools / 'test.py', ROOT / task.config, f'out/{task.checkpoint}', *options)
    assert task.metric.split('/')[-1] in result.stdout + result.stderr


def write_upstream_config(tmp_path, lines=''):
    """Write a segmentation config that inherits the toolbox's base files."""
    names = (
        'models/fcn_r50-d8',
        'datasets/cityscapes',
        'default_runtime',
        'schedules/schedule_20k',
    )
    base = toolbox_folder('mmseg') / 'configs/_base_'
    (tmp_path / 'user_config.py').write_text(
        f'_base_ = {[str(base / f"{name}.py") for name in names]}\n'
        'model = dict(data_preprocessor=dict(size=(32, 64)), '
        f'decode_head=dict(channels=16), auxiliary_head=dict(channels=16))\n{lines}'
    )


SHRINK_UPSTREAM = [
    *[option for option in shrink('mmseg') if 'num_workers' in option],
    'train_cfg.max_iters=2',
    'val_dataloader.dataset.pipeline.1.scale="(64,32)"',
    'default_hooks.checkpoint.interval=1000',  # it has 400 MB
    'default_hooks.checkpoint.save_last=False',
    'train_dataloader.batch_size=2',
    'train_dataloader.dataset.pipeline.2.scale="(64,32)"',
    'train_dataloader.dataset.pipeline.3.crop_size="(32,64)"',
    'default_hooks.logger.interval=1',
]


def test_upstream_config(data, run, tmp_path):
    pytest.importorskip('mmseg')
    write_upstream_config(tmp_path)
    result = run(
        ROOT / 'tools/train.py', *arguments('mmseg', data, config='user_config.py'),
        '--cfg-options', *SHRINK_UPSTREAM, 'model.backbone.type=ResNetV1cMoD',
        'model.pretrained=None',
    )  # fmt: skip
    assert len(read_losses(result)) == 2
    log = next((tmp_path / 'out').glob('*/*.log')).read_text()
    assert re.search(r'SyncBN is replaced by BN in \d places .*: there is only one device', log)
    assert "imports=[\n        'mmcnnmod'" in (tmp_path / 'out/user_config.py').read_text()


def test_upstream_config_with_custom_imports_in_upstream_tool(data, run, tmp_path):
    pytest.importorskip('mmseg')
    write_upstream_config(
        tmp_path,
        "custom_imports = dict(imports=['mmcnnmod'])\n"
        "model.update(pretrained=None, backbone=dict(type='ResNetV1cMoD'))\n",
    )
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'cityscapes').symlink_to(data / 'scenes')
    result = run(
        toolbox_folder('mmseg') / 'tools/train.py', 'user_config.py', '--work-dir', 'out',
        '--cfg-options', *SHRINK_UPSTREAM, *without_persistent_workers('train', 'val'),
    )  # fmt: skip
    assert len(read_losses(result)) == 2


def write_program(path, script):
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)


def test_two_processes(data, run_tool, run, tmp_path):
    """A replacement of Python prints its arguments; then forks run them."""
    pytest.importorskip('mmseg')
    python = tmp_path / 'python'
    write_program(python, 'printf "%s\\n" "$PYTHONPATH" "$OMP_NUM_THREADS" "$@"')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        environment = dict(PYTHON=str(python), PORT=str(free.getsockname()[1]))
    config, *options = arguments('mmseg', data)
    options += ['--cfg-options', *shrink('mmseg'), 'env_cfg.dist_cfg.backend=gloo',
                'model.backbone.frozen_stages=1']  # fmt: skip

    def launch(script, *words):
        printed = run_tool(
            ROOT / 'tools' / script, config, *words, *options, cwd=tmp_path, **environment
        )
        path, threads, *words = printed.stdout.splitlines()
        assert ROOT.samefile(path.split(':')[0])
        return run(*words, OMP_NUM_THREADS=threads)

    result = launch('dist_train.sh', 2)
    assert len(read_losses(result)) == 2  # only the first process logs
    result = launch('dist_test.sh', tmp_path / 'out/iter_2.pth', 2, '--tta')
    # From the log: in mmengine, all processes write the JSON file at the same time.
    scores = re.findall(r'Iter\(test\).* mIoU: ([\d.]+)', result.stdout + result.stderr)
    assert len(scores) == 1
    assert 0 < float(scores[0]) <= 100


@pytest.mark.parametrize(
    ('task', 'files'), [('train', ['cfg.py']), ('test', ['cfg.py', 'weights.pth'])]
)
def test_slurm(run_tool, tmp_path, task, files):
    """A replacement of srun prints its arguments."""
    write_program(tmp_path / 'srun', 'printf "%s\\n" "$@"')
    result = run_tool(
        ROOT / f'tools/slurm_{task}.sh', 'part', 'job', *files, '--amp', cwd=tmp_path,
        PATH=f'{tmp_path}:/usr/bin:/bin', GPUS='2', PYTHON='python3', SRUN_ARGS='--quiet --time=1',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    options = {'--partition=part', '--job-name=job', '--ntasks=2', '--gres=gpu:2', '--time=1'}
    assert options <= set(words)
    _, _, program, *rest = words[words.index('python3') :]
    assert Path(program).resolve() == ROOT / f'tools/{task}.py'
    assert rest == [*files, '--amp', '--launcher', 'slurm']


@pytest.mark.parametrize(('code', 'requeued'), [(0, ''), (1, ''), (143, 'requeue 42\n')])
def test_slurm_requeues_jobs_that_sigterm_ended(run_tool, tmp_path, code, requeued):
    asked = tmp_path / 'asked'
    asked.touch()
    write_program(tmp_path / 'srun', f'echo "$@"\nexit {code}')
    write_program(tmp_path / 'scontrol', f'echo "$@" >> {asked}')
    result = run_tool(
        ROOT / 'tools/slurm_train.sh', 'part', 'job', 'cfg.py', cwd=tmp_path,
        PATH=f'{tmp_path}:/usr/bin:/bin', REQUEUE='1', SLURM_JOB_ID='42',
    )  # fmt: skip
    assert result.returncode == code
    assert result.stdout.splitlines()[0].endswith('cfg.py --launcher slurm --resume')
    assert asked.read_text() == requeued


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_launchers_without_arguments_print_their_usage(run_tool, tmp_path, script):
    result = run_tool(ROOT / f'tools/{script}.sh', cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f'tools/{script}.sh ')
    assert len(result.stderr.splitlines()) == 1
