"""A small plan, records of its runs, and files of a work dir."""

import json
from pathlib import Path

import torch


def make_plan(**options):
    from plan import Arm, Plan

    arms = {
        'R34': Arm('R34', Path('x.py')),
        'MoD': Arm('MoD', Path('x.py'), baseline='R34', weight=0.5),
    }
    return Plan(Path('configs/p.yml'), 'Title', '', 'top1', (32, 32), (0, 1, 2), arms, **options)


def make_run(arm, seed, score, seconds=10.0, **more):
    return dict(
        arm=arm, seed=seed, score=score, curve=[[1, score - 9], [2, score]], train_seconds=8.0,
        peak_memory_mb=100, seconds=seconds, machine='m', versions=dict(torch='2'),
        config_hash='h', date='2026-11-21', **more,
    )  # fmt: skip


def log(folder, *lines, start='start'):
    """Append lines to scalars.json, as mmengine does; ``start`` is the name of a start."""
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        file.writelines(f'{json.dumps(line)}\n' for line in lines)


def save_checkpoint(path, best='best_1.pth'):
    """Save the parts of a checkpoint that are read. ``best`` is that of the best checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hub = {'runtime_info': {'best_ckpt': str(path.with_name(best))}}
    torch.save({'state_dict': {'x': torch.zeros(1)}, 'meta': {}, 'message_hub': hub}, path)
