"""Publish a trained checkpoint: its weights and a record of their origin."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from ..files import atomic_write
from .reading import weights_of

SUFFIXES = ('.pth', '.safetensors')
MAX_VALUES, MAX_DEPTH = 1_000_000, 100  # limits for ``meta``
# Which keys of mmengine's ``meta`` are kept.
KEPT = ('cfg', 'dataset_meta', 'epoch', 'iter', 'experiment_name', 'seed', 'mmengine_version')


def published(
    content: dict,
    versions: Mapping[str, str],
    metrics: Mapping[str, float] | None = None,
    average: bool = True,
) -> dict:
    """Extract the weights of a checkpoint and a record of their origin, without training state.

    Args:
        content (dict): The result of :func:`~mmcnnmod.checkpoints.read_checkpoint`.
        versions (Mapping[str, str]): The versions of packages.
        metrics (Mapping[str, float], optional): The scores. Defaults to None: the scores in the
            checkpoint, see :func:`metrics_of`.
        average (bool): Publish the moving average of the weights if EMAHook kept one, otherwise
            the weights themselves. Defaults to True.

    Returns:
        dict: ``state_dict``, and ``meta`` of texts, numbers, lists and dicts, with ``cfg``,
        ``dataset_meta``, ``epoch``, ``iter``, ``versions``, ``metrics``, ``published`` ...

    Raises:
        UserError: If it holds no weights, or if ``average=False`` and it holds no average.
    """
    weights = weights_of(content, 'to publish')
    if not average:
        # mmengine saves the average in state_dict and the weights in ema_state_dict.
        if 'ema_state_dict' not in content:
            raise UserError('the checkpoint holds no average of weights (EMAHook), but the weights')
        own = content['ema_state_dict']
        weights = {name: own.get(f'module.{name}', tensor) for name, tensor in weights.items()}
    meta = content.get('meta') or {}
    record = {key: meta[key] for key in KEPT if key in meta}
    record.update(
        versions=versions,
        metrics=metrics_of(content) if metrics is None else metrics,
        average_of_weights=average and 'ema_state_dict' in content,
        published=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )
    # Clone the tensors, because torch saves a view with its whole storage.
    state_dict = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    return dict(state_dict=state_dict, meta=plain(record))


def metrics_of(content: dict) -> dict[str, float]:
    """The scores of a checkpoint that was saved after validation, such as the best one.

    mmengine saves other checkpoints before validation, so they contain scores of earlier weights.
    """
    hub = content.get('message_hub') or {}
    if hub.get('runtime_info', {}).get('loop_stage') != 'val':
        return {}
    scalars = {
        name.removeprefix('val/'): float(history.current())
        for name, history in hub['log_scalars'].items()
        if name.startswith('val/')
    }
    return without_times(scalars)


def read_metrics(path: str | Path) -> dict[str, float]:
    """Read scores from a JSON file that tools/test.py wrote."""
    try:
        metrics = json.loads(Path(path).read_text(encoding='utf-8'))
        return without_times({name: float(value) for name, value in metrics.items()})
    except (OSError, ValueError, AttributeError, TypeError) as problem:
        raise UserError(
            f'metrics {path} cannot be read ({problem}); use a JSON file of names and numbers, '
            'such as the one that tools/test.py writes into its work dir'
        ) from problem


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    """Remove measured times from scores."""
    return {name: value for name, value in metrics.items() if name not in ('time', 'data_time')}


def plain(value, left: list[int] | None = None, depth: int = 0):
    """Convert to Python's own types, which JSON and all readers of checkpoints support.

    A value with two references is copied twice. The limits keep a small file from becoming huge.
    """
    left = [MAX_VALUES] if left is None else left
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise UserError(
            f'the meta of the checkpoint holds more than {MAX_VALUES:,} values, or '
            f'nests them more than {MAX_DEPTH} deep; remove what is not needed'
        )
    if isinstance(value, Mapping):
        return {str(key): plain(value[key], left, depth + 1) for key in value}
    if isinstance(value, (list, tuple, set)):
        return [plain(item, left, depth + 1) for item in value]
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return value.tolist()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def write_with_hash(content: dict, out: str | Path, exist_ok: bool = False) -> Path:
    """Write a checkpoint with its hash in its name, completely or not at all.

    Args:
        content (dict): ``state_dict`` and ``meta``, as :func:`published` returns them.
        out (str | Path): 'folder/name.pth' or 'folder/name.safetensors'.
        exist_ok (bool): Keep an existing file with this name, which has the same content. Defaults
            to False.

    Returns:
        Path: 'folder/name-HASH.pth', with the first eight digits of the file's SHA-256, which
        ``torch.hub`` can check.

    Raises:
        UserError: For another suffix, or if the file exists or cannot be written.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise UserError(f'{out}: published checkpoints end in {" or ".join(SUFFIXES)}')
    buffer = io.BytesIO()
    serialize(content, buffer, out.suffix)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:8]
    target = out.with_name(f'{out.stem}-{digest}{out.suffix}')
    if target.exists():
        if exist_ok:
            return target
        raise UserError(f'{target} already exists; remove it or choose another name')
    with atomic_write(target) as partial:
        partial.write_bytes(buffer.getbuffer())
    return target


def serialize(content: dict, file, suffix: str) -> None:
    """Write a checkpoint into an open file."""
    if suffix == '.pth':
        torch.save(content, file)
        return
    try:
        from safetensors.torch import save
    except ImportError as problem:
        raise UserError(
            'a .safetensors file needs the package safetensors: pip install safetensors'
        ) from problem
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in content['meta'].items()
    }
    file.write(save(content['state_dict'], texts))
