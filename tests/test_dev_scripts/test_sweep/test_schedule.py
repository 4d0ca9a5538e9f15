"""Configs are found, tried and classified; some of mmseg's own are really run."""

from pathlib import Path
from threading import Barrier

import pytest
from sweep.schedule import (
    OURS,
    UPSTREAM,
    WORKS,
    Entry,
    examine,
    examine_all,
    read_entry,
    shuffled_configs,
)
from sweep.worker import Worker

from ...utils.sweep_jobs import examine_in, load_checkpoint

ENTRY = Entry('mmseg', 'fcn.py', 'ResNetV1c', 'digest')
FAILURE = {'step': 'loss', 'error': 'RuntimeError: 3 against 4 (heads/fcn.py, loss)', 'seconds': 1}
BUILD_FAILURE = {**FAILURE, 'step': 'build'}
SWAP_FAILURE = {**FAILURE, 'step': 'swap'}


@pytest.mark.parametrize(
    ('swapped', 'dense', 'expected'),
    [
        (FAILURE, FAILURE, UPSTREAM),
        (FAILURE, {**FAILURE, 'step': 'predict'}, OURS),
        (FAILURE, {**FAILURE, 'error': 'RuntimeError: 3 against 5 (heads/fcn.py, loss)'}, OURS),
        (FAILURE, {**FAILURE, 'error': 'RuntimeError: 3 against 4 (heads/fcn.py, predict)'}, OURS),
        (FAILURE, {'seconds': 1}, OURS),
        # The names of our classes and addresses make no difference.
        (
            {**FAILURE, 'error': 'TypeError: ResNetMoD at 0x7f0a (a.py:1)'},
            {**FAILURE, 'error': 'TypeError: ResNet at 0x7f0b (a.py:1)'},
            UPSTREAM,
        ),
        (SWAP_FAILURE, SWAP_FAILURE, OURS),
    ],
)
def test_only_the_same_failure_is_blamed_on_upstream(swapped, dense, expected):
    result = examine(ENTRY, lambda toolbox, name, swap, factor: swapped if swap else dense)
    assert result['outcome'] == expected
    assert result['error'] == swapped['error']
    assert result.get('dense_error') == dense.get('error')


@pytest.mark.parametrize(
    ('small', 'large', 'outcome', 'runs'),
    [
        # A config that works is not tried with its dense backbone.
        ({'seconds': 1}, None, WORKS, [(True, 1)]),
        (FAILURE, {'seconds': 1}, WORKS, [(True, 1), (False, 1), (True, 3)]),
        # The size of the images does not matter before the loss.
        (BUILD_FAILURE, {'seconds': 1}, UPSTREAM, [(True, 1), (False, 1)]),
    ],
)
def test_larger_images_are_tried_after_a_failure(small, large, outcome, runs):
    tried = []

    def smoke_run(toolbox, name, swap, factor):
        tried.append((swap, factor))
        return large if factor > 1 else small

    assert examine(ENTRY, smoke_run)['outcome'] == outcome
    assert tried == runs


def test_configs_are_examined_once_and_in_parallel():
    entries = [Entry('mmseg', str(i)) for i in range(6)]
    two, used = Barrier(2), []

    def smoke_run(toolbox, name, swap, factor):
        used.append(name)
        two.wait(60)
        return {'seconds': 0}

    done = dict(examine_all(entries, smoke_run, jobs=2))
    assert list(done.values()) == [{'outcome': WORKS, 'seconds': 0}] * 6
    assert set(done) == set(entries)
    assert sorted(used) == list('012345')


def test_error_in_the_sweep_itself_ends_it():
    def broken(toolbox, name, swap, factor):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(examine_all([ENTRY], broken, jobs=1))


def test_seed_determines_the_order():
    pytest.importorskip('mmpretrain')
    first, second = (shuffled_configs(['mmpretrain'], seed) for seed in (1, 2))
    assert first == shuffled_configs(['mmpretrain'], 1)
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(
    ('toolbox', 'name', 'backbone'),
    [
        ('mmpretrain', 'resnet/resnet18_8xb16_cifar10.py', 'ResNet_CIFAR'),
        ('mmseg', 'bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py', 'ResNet'),
        ('mmdet', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'ResNet'),
        ('mmdet', 'reid/reid_r50_8xb32-6e_mot15train80_test-mot15val20.py', 'mmpretrain.ResNet'),
        ('mmdet', 'retinanet/retinanet_x101-32x4d_fpn_1x_coco.py', ''),
        ('mmdet', 'common/ms_3x_coco.py', ''),
    ],
)
def test_backbones_are_found(toolbox, name, backbone):
    pytest.importorskip(toolbox)
    entry = read_entry(toolbox, name)
    assert (entry.backbone, bool(entry.digest), entry.error) == (backbone, bool(backbone), '')


def test_digest_ignores_schedule_and_image_size():
    pytest.importorskip('mmseg')
    names = [
        'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
        'fcn/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py',
        'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py',
    ]
    first, longer, more_classes = (read_entry('mmseg', name).digest for name in names)
    assert first == longer != more_classes


@pytest.mark.parametrize(
    ('head', 'fault', 'outcome', 'step', 'error'),
    [
        ('dropout_ratio=0.2', None, WORKS, None, None),
        ('in_channels=7', None, UPSTREAM, 'loss', 'RuntimeError: Given groups=1'),
        ('type="Nonsense"', None, UPSTREAM, 'build', "KeyError: 'Nonsense is not"),
        ('dropout_ratio=0.2', 'block', OURS, 'loss', 'RuntimeError: a broken MoD block'),
        ('dropout_ratio=0.2', 'start', OURS, 'init', 'RuntimeError: a backbone does not load'),
    ],
)
def test_real_configs_have_the_expected_outcome(head, fault, outcome, step, error, tmp_path):
    mmseg = pytest.importorskip('mmseg')
    base = Path(mmseg.__file__).parent / '.mim/configs/fcn'
    (tmp_path / 'a.py').write_text(
        f'_base_ = "{base}/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py"\n'
        f'model = dict(decode_head=dict({head}))\n'
    )
    result = Worker(examine_in, seconds=200, gigabytes=4)(str(tmp_path), 'a.py', fault)
    assert (result['outcome'], result.get('step')) == (outcome, step)
    if error:
        assert result['error'].startswith(error)
    # A fault of upstream is shown by the same error without MoD.
    assert result.get('dense_error') == (result['error'] if outcome == UPSTREAM else None)


def test_nothing_is_downloaded():
    result = Worker(load_checkpoint, seconds=200, gigabytes=4)('torchvision://resnet18')
    assert result['error'].startswith('the sweep does not download checkpoints')
