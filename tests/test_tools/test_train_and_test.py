"""Training and testing as programs: ours, the toolboxes' own, and several processes."""

import importlib.util
import re
import socket
import sys
from pathlib import Path

import pytest
import torch

from mmcnnmod.checkpoints import read_checkpoint

from ..utils.tasks import ROOT, TASKS, newest_json, shrink, tail

LOSS = re.compile(r'\bloss: ([\d.]+)')


def losses(result):
    return [float(loss) for loss in LOSS.findall(result.stdout + result.stderr)]


@pytest.mark.smoke
def test_train_then_test(toolbox, trained, data, run_python, tmp_path):
    config, name, _, checkpoint, metric = TASKS[toolbox]
    work_dir, result = trained(toolbox)
    assert result.returncode == 0, tail(result)
    assert len(losses(result)) >= 2
    assert all(loss > 0 for loss in losses(result))

    out = tmp_path / ('pictures' if toolbox == 'mmseg' else 'predictions.pkl')
    result = run_python(
        ROOT / 'tools/test.py', ROOT / config, work_dir / checkpoint,
        '--work-dir', tmp_path, '--data-root', data / name, '--out', out,
        '--show-dir', tmp_path / 'show', '--cfg-options', *shrink(toolbox), cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert any(key.endswith(metric) for key in newest_json(tmp_path))
    assert out.exists()
    assert list(tmp_path.rglob('show/**/*.[jp][pn]g'))
    # Its copy of the config does not overwrite the one that training left.
    assert {path.name for path in tmp_path.glob('*.py')} == {f'test_{Path(config).name}'}


@pytest.mark.parametrize('amount', ['auto', 'checkpoint'])
def test_resume(trained, data, run_python, tmp_path, amount):
    config, name, _, checkpoint, _ = TASKS['mmseg']
    work_dir, _ = trained('mmseg')
    source = work_dir / checkpoint
    if amount == 'auto':
        (tmp_path / checkpoint).write_bytes(source.read_bytes())
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / checkpoint))
    result = run_python(
        ROOT / 'tools/train.py', ROOT / config, '--work-dir', tmp_path,
        '--data-root', data / name, '--resume', *([] if amount == 'auto' else [source]),
        '--cfg-options', *shrink('mmseg'), 'train_cfg.max_iters=3', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert 'resumed epoch: 0, iter: 2' in result.stdout + result.stderr
    assert len(losses(result)) == 1


def tensors_in(node, path=''):
    """All tensors of a checkpoint, also of the optimiser, by their path."""
    if isinstance(node, torch.Tensor):
        yield path, node
    elif isinstance(node, (dict, list)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from tensors_in(value, f'{path}.{key}')


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(toolbox, data, run_python, tmp_path):
    """With loading processes and random augmentation; another seed gives others."""
    config, name, *_ = TASKS[toolbox]
    length = 'max_iters=6' if toolbox == 'mmseg' else 'max_epochs=3'
    runs = []
    for i, seed in enumerate((3, 3, 4)):
        work_dir = tmp_path / f'run-{i}'
        result = run_python(
            ROOT / 'tools/train.py', ROOT / config, '--work-dir', work_dir, '--no-validate',
            '--data-root', data / name, '--cfg-options', *shrink(toolbox), f'train_cfg.{length}',
            'train_dataloader.num_workers=2', f'randomness.seed={seed}', cwd=tmp_path,
        )  # fmt: skip
        assert result.returncode == 0, tail(result)
        content = torch.load((work_dir / 'last_checkpoint').read_text(), weights_only=False)
        runs.append(dict(tensors_in({key: content[key] for key in ('state_dict', 'optimizer')})))
    first, same, other = runs
    assert len(first) > len(content['state_dict'])
    assert first.keys() == same.keys() == other.keys()
    assert [key for key in first if not torch.equal(first[key], same[key])] == []
    assert [key for key in first if not torch.equal(first[key], other[key])]


def test_resume_passes_over_truncated_files(trained, data, run_python, tmp_path):
    """As mmengine leaves them when killed: one file is truncated, the named one is gone."""
    config, name, _, checkpoint, _ = TASKS['mmseg']
    work_dir, _ = trained('mmseg')
    content = (work_dir / checkpoint).read_bytes()
    (tmp_path / 'iter_2.pth').write_bytes(content)
    (tmp_path / 'iter_4.pth').write_bytes(content[: len(content) // 2])
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    result = run_python(
        ROOT / 'tools/train.py', ROOT / config, '--work-dir', tmp_path,
        '--data-root', data / name, '--resume',
        '--cfg-options', *shrink('mmseg'), 'train_cfg.max_iters=3', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert f'skipped: checkpoint {tmp_path / "iter_4.pth"} cannot be read' in result.stdout
    assert f'skipped: checkpoint {tmp_path / "iter_3.pth"} does not exist' in result.stdout
    assert 'resumed epoch: 0, iter: 2' in result.stdout + result.stderr
    read_checkpoint(tmp_path / 'iter_3.pth')


def test_a_backbone_of_another_toolbox(trained, data, run_python, tmp_path):
    """What mmseg trained starts mmdet's backbone; the prefix in the names is recognised."""
    pytest.importorskip('mmdet')
    config, name, *_ = TASKS['mmdet']
    work_dir, _ = trained('mmseg')
    result = run_python(
        ROOT / 'tools/train.py', ROOT / config, '--work-dir', tmp_path,
        '--data-root', data / name, '--pretrained', work_dir / TASKS['mmseg'][3],
        '--cfg-options', *shrink('mmdet'), 'optim_wrapper.optimizer.lr=0', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    source, started = (
        torch.load(path, map_location='cpu', weights_only=False)['state_dict']
        for path in (work_dir / TASKS['mmseg'][3], tmp_path / TASKS['mmdet'][3])
    )
    learnt = [key for key in source if key.startswith('backbone.') and key.endswith('weight')]
    assert len(learnt) == 48
    assert all(torch.equal(source[key], started[key]) for key in learnt)


def test_the_dumped_config_is_complete(trained, data, run_python, tmp_path):
    """The copy in the work dir needs no options, and any tool can read it."""
    _, _, _, checkpoint, _ = TASKS['mmseg']
    work_dir, _ = trained('mmseg')
    config = work_dir / 'fcn_r18-mod_street-scenes.py'
    result = run_python(
        ROOT / 'tools/test.py', config, work_dir / checkpoint,
        '--work-dir', tmp_path, '--tta', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)


def test_a_dense_config_with_mod(data, run_python, tmp_path):
    """It starts from the dense weights; the copy in the work dir needs no options."""
    mmpretrain = pytest.importorskip('mmpretrain')
    dense = mmpretrain.models.ResNet(18).state_dict()
    torch.save(dense, tmp_path / 'dense.pth')
    _, name, _, checkpoint, metric = TASKS['mmpretrain']
    result = run_python(
        ROOT / 'tools/train.py', ROOT / 'configs/resnet18_in1k.py', '--mod', 'c=32',
        '--work-dir', tmp_path / 'out', '--data-root', data / name, '--cfg-options',
        *shrink('mmpretrain'), 'optim_wrapper.optimizer.lr=0',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={tmp_path / "dense.pth"}', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert 'model.backbone.type: ResNet -> ResNetMoD' in result.stdout
    trained = torch.load(tmp_path / 'out' / checkpoint, weights_only=False)['state_dict']
    taken = trained['backbone.layer4.0.conv1.weight']
    assert torch.equal(taken, dense['layer4.0.conv1.weight'])
    assert trained['backbone.layer4.1.conv_block.0.conv.weight'].shape[1] == 512 // 32

    result = run_python(
        ROOT / 'tools/test.py', tmp_path / 'out' / 'resnet18_in1k.py',
        tmp_path / 'out' / checkpoint, '--work-dir', tmp_path / 'test', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert any(key.endswith(metric) for key in newest_json(tmp_path / 'test'))


def toolbox_folder(toolbox):
    return Path(importlib.util.find_spec(toolbox).origin).parent / '.mim'


def test_the_toolboxes_own_tools_run_our_configs(toolbox, data, run_python, tmp_path):
    config, name, _, checkpoint, metric = TASKS[toolbox]
    ours = tmp_path / 'config.py'
    # Their tools have no --data-root: point the configs' default at the generated data.
    default = {'scenes': 'street-scenes', 'voc': 'VOCdevkit'}.get(name, name)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / default).symlink_to(data / name)
    ours.write_text(f'_base_ = {str(ROOT / config)!r}\n')
    tools = toolbox_folder(toolbox) / 'tools'
    common = ['--work-dir', tmp_path / 'out', '--cfg-options', *shrink(toolbox)]
    if toolbox == 'mmpretrain':
        common = ['--no-pin-memory', *common]
    no_workers = [
        f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val', 'test')
    ]
    result = run_python(
        tools / 'train.py', ours, *common, *no_workers, cwd=tmp_path
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert len(losses(result)) >= 2
    result = run_python(
        tools / 'test.py', ours, tmp_path / 'out' / checkpoint, *common,
        *no_workers, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert metric.split('/')[-1] in result.stdout + result.stderr


UPSTREAM = '_base_/models/fcn_r50-d8.py'


def write_upstream_config(tmp_path, custom_imports):
    """A user's segmentation config that inherits the toolbox's base files."""
    base = toolbox_folder('mmseg') / 'configs'
    config = tmp_path / 'user_config.py'
    config.write_text(
        f'_base_ = [{str(base / UPSTREAM)!r}, '
        f'{str(base / "_base_/datasets/cityscapes.py")!r}, '
        f'{str(base / "_base_/default_runtime.py")!r}, '
        f'{str(base / "_base_/schedules/schedule_20k.py")!r}]\n'
        'model = dict(data_preprocessor=dict(size=(32, 64)), '
        'decode_head=dict(channels=16), auxiliary_head=dict(channels=16))\n' + custom_imports
    )
    return config


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


def test_an_untouched_upstream_config(data, run_tool, tmp_path):
    pytest.importorskip('mmseg')
    result = run_tool(
        sys.executable, ROOT / 'tools/train.py', write_upstream_config(tmp_path, ''),
        '--data-root', data / 'scenes', '--work-dir', tmp_path / 'out', '--cfg-options',
        *SHRINK_UPSTREAM, 'model.backbone.type=ResNetV1cMoD', 'model.pretrained=None',
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert len(losses(result)) == 2
    log = next((tmp_path / 'out').glob('*/*.log')).read_text()
    assert re.search(r'SyncBN is replaced by BN in \d places .*: there is only one device', log)
    assert "imports=[\n        'mmcnnmod'" in (tmp_path / 'out' / 'user_config.py').read_text()


def test_an_upstream_config_with_custom_imports_in_upstreams_tool(data, run_python, tmp_path):
    pytest.importorskip('mmseg')
    imports = (
        "custom_imports = dict(imports=['mmcnnmod'])\n"
        "model.update(pretrained=None, backbone=dict(type='ResNetV1cMoD'))\n"
    )
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'cityscapes').symlink_to(data / 'scenes')
    result = run_python(
        toolbox_folder('mmseg') / 'tools' / 'train.py',
        write_upstream_config(tmp_path, imports), '--work-dir', tmp_path / 'out',
        '--cfg-options', *SHRINK_UPSTREAM, 'train_dataloader.persistent_workers=False',
        'val_dataloader.persistent_workers=False', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, tail(result)
    assert len(losses(result)) == 2


def test_two_processes(data, run_tool, run_python, tmp_path):
    """A stand-in for Python prints what the launchers start, which then runs in forks."""
    pytest.importorskip('mmseg')
    config, name, _, checkpoint, _ = TASKS['mmseg']
    gloo = 'env_cfg.dist_cfg.backend=gloo'
    common = ['--data-root', data / name, '--work-dir', tmp_path]
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$OMP_NUM_THREADS" "$@"\n')
    python.chmod(0o755)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        environment = dict(PYTHON=str(python), PORT=str(free.getsockname()[1]))

    def launch(script, *arguments):
        told = run_tool(ROOT / 'tools' / script, *arguments, cwd=tmp_path, **environment)
        path, threads, *words = told.stdout.splitlines()
        assert (ROOT / 'tools/..').samefile(path.split(':')[0])
        return run_python(*words, cwd=tmp_path, OMP_NUM_THREADS=threads)

    options = ['--cfg-options', *shrink('mmseg'), gloo, 'model.backbone.frozen_stages=1']
    result = launch('dist_train.sh', ROOT / config, 2, *common, *options)
    assert result.returncode == 0, tail(result)
    assert len(losses(result)) == 2  # only the first process logs
    result = launch(
        'dist_test.sh', ROOT / config, tmp_path / checkpoint, 2, '--tta', *common, *options
    )
    assert result.returncode == 0, tail(result)
    # From the log: mmengine lets every process write the JSON file, over one another.
    scores = re.findall(r'Iter\(test\).* mIoU: ([\d.]+)', result.stdout + result.stderr)
    assert len(scores) == 1
    assert 0 < float(scores[0]) <= 100


@pytest.mark.parametrize('task', ['train', 'test'])
def test_slurm(run_tool, tmp_path, task):
    """A stand-in for srun prints its arguments."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    srun.chmod(0o755)
    files = ['cfg.py', 'weights.pth'][: 1 if task == 'train' else 2]
    result = run_tool(
        ROOT / f'tools/slurm_{task}.sh', 'part', 'job', *files, '--amp', cwd=tmp_path,
        PATH=f'{tmp_path}:/usr/bin:/bin', GPUS='2', PYTHON='python3', SRUN_ARGS='--quiet --time=1',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    assert {'--partition=part', '--job-name=job', '--ntasks=2', '--gres=gpu:2', '--time=1'} <= set(
        words
    )
    start = words.index('python3')
    program = words[start:]
    assert Path(program[2]).resolve() == ROOT / f'tools/{task}.py'
    assert program[3:] == [*files, '--amp', '--launcher', 'slurm']


@pytest.mark.parametrize(('code', 'requeued'), [(0, []), (1, []), (143, ['requeue 42'])])
def test_slurm_requeues(run_tool, tmp_path, code, requeued):
    """Only a job that SIGTERM has ended."""
    for name, text in (('srun', f'exit {code}'), ('scontrol', f'echo "$@" >> {tmp_path}/asked')):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@"\n{text}\n')
        (tmp_path / name).chmod(0o755)
    result = run_tool(
        ROOT / 'tools/slurm_train.sh', 'part', 'job', 'cfg.py', cwd=tmp_path,
        PATH=f'{tmp_path}:/usr/bin:/bin', REQUEUE='1', SLURM_JOB_ID='42',
    )  # fmt: skip
    assert result.returncode == code
    assert result.stdout.splitlines()[0].endswith('cfg.py --launcher slurm --resume')
    asked = tmp_path / 'asked'
    assert (asked.read_text().splitlines() if asked.exists() else []) == requeued


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_launchers_without_arguments_print_their_usage(run_tool, tmp_path, script):
    result = run_tool(ROOT / f'tools/{script}.sh', cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f'tools/{script}.sh ')
    assert len(result.stderr.splitlines()) == 1
