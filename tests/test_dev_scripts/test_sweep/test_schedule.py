"""How outcomes are sorted, and that upstream's configs are tried in earnest."""

from pathlib import Path
from threading import Barrier

import pytest
from sweep.schedule import OURS, UPSTREAM, WORKS, Entry, examine, examine_all, look_at, shuffled
from sweep.worker import Worker

from ...utils.sweep_jobs import do

ENTRY = Entry('mmseg', 'fcn.py', 'ResNetV1c', 'digest')
FAILURE = {'step': 'loss', 'error': 'RuntimeError: 3 against 4 (heads/fcn.py, loss)', 'seconds': 1}


def outcome(swapped, dense):
    return examine(ENTRY, lambda toolbox, name, swap, factor: swapped if swap else dense)


def test_what_works_is_not_tried_dense():
    result = outcome({'seconds': 1}, None)
    assert result == {'outcome': WORKS, 'seconds': 1}


@pytest.mark.parametrize(
    ('dense', 'expected'),
    [
        (FAILURE, UPSTREAM),
        ({**FAILURE, 'step': 'predict'}, OURS),
        ({**FAILURE, 'error': 'RuntimeError: 3 against 5 (heads/fcn.py, loss)'}, OURS),
        ({**FAILURE, 'error': 'RuntimeError: 3 against 4 (heads/fcn.py, predict)'}, OURS),
        ({'seconds': 1}, OURS),
    ],
)
def test_only_the_same_failure_is_upstreams(dense, expected):
    result = outcome(FAILURE, dense)
    assert result['outcome'] == expected
    assert result['error'] == FAILURE['error']
    assert result.get('dense_error') == dense.get('error')


def test_a_config_that_cannot_be_prepared_is_our_fault():
    failure = {**FAILURE, 'step': 'swap'}
    assert outcome(failure, failure)['outcome'] == OURS


def test_names_of_our_classes_and_addresses_make_no_difference():
    ours = {**FAILURE, 'error': 'TypeError: ResNetMoD at 0x7f0a (a.py:1)'}
    theirs = {**FAILURE, 'error': 'TypeError: ResNet at 0x7f0b (a.py:1)'}
    assert outcome(ours, theirs)['outcome'] == UPSTREAM


def test_images_that_are_too_small_are_nobodys_fault():
    tried = []

    def smoke_run(toolbox, name, swap, factor):
        tried.append((swap, factor))
        return {'seconds': 1} if factor > 1 else FAILURE

    assert examine(ENTRY, smoke_run)['outcome'] == WORKS
    assert tried == [(True, 1), (False, 1), (True, 3)]


def test_images_do_not_matter_before_there_are_any():
    tried = []

    def smoke_run(toolbox, name, swap, factor):
        tried.append((swap, factor))
        return {**FAILURE, 'step': 'build'}

    assert examine(ENTRY, smoke_run)['outcome'] == UPSTREAM
    assert tried == [(True, 1), (False, 1)]


def test_every_config_is_examined_once_and_two_at_a_time():
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


def test_an_error_of_the_sweep_itself_ends_it():
    def broken(toolbox, name, swap, factor):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(examine_all([ENTRY], broken, jobs=1))


def test_a_seed_decides_on_the_order():
    pytest.importorskip('mmpretrain')
    assert shuffled(['mmpretrain'], 1) == shuffled(['mmpretrain'], 1)
    assert shuffled(['mmpretrain'], 1) != shuffled(['mmpretrain'], 2)
    assert sorted(shuffled(['mmpretrain'], 1)) == sorted(shuffled(['mmpretrain'], 2))


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
    entry = look_at(toolbox, name)
    assert (entry.backbone, bool(entry.digest), entry.error) == (backbone, bool(backbone), '')


def test_a_config_is_equal_to_another_with_other_images_only():
    pytest.importorskip('mmseg')
    names = [
        'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
        'fcn/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py',
        'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py',
    ]
    first, longer, more_classes = (look_at('mmseg', name).digest for name in names)
    assert first == longer != more_classes


@pytest.fixture
def worker():
    return Worker(do, seconds=200, gigabytes=4)


@pytest.mark.parametrize(
    ('head', 'fault', 'outcome', 'step', 'error'),
    [
        ('dropout_ratio=0.2', None, WORKS, None, None),
        ('in_channels=7', None, UPSTREAM, 'loss', 'RuntimeError: Given groups=1'),
        ('type="Nonsense"', None, UPSTREAM, 'build', "KeyError: 'Nonsense is not"),
        ('dropout_ratio=0.2', 'block', OURS, 'loss', 'RuntimeError: a broken MoD block'),
        ('dropout_ratio=0.2', 'start', OURS, 'init', 'RuntimeError: a backbone does not start'),
    ],
)
def test_configs_are_tried_in_earnest(head, fault, outcome, step, error, tmp_path, worker):
    mmseg = pytest.importorskip('mmseg')
    base = Path(mmseg.__file__).parent / '.mim/configs/fcn'
    (tmp_path / 'a.py').write_text(
        f'_base_ = "{base}/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py"\n'
        f'model = dict(decode_head=dict({head}))\n'
    )
    result = worker('examine_in', str(tmp_path), 'a.py', fault)
    assert (result['outcome'], result.get('step')) == (outcome, step)
    if error:
        assert result['error'].startswith(error)
    # Upstream's own faults are proven by the same error without MoD.
    assert result.get('dense_error') == (result['error'] if outcome == UPSTREAM else None)


def test_nothing_is_downloaded(worker):
    result = worker('download', 'torchvision://resnet18')
    assert result['error'].startswith('a sweep downloads nothing')
