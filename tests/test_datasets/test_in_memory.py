"""Images in memory and augmentation on the device, against the ordinary pipeline."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, FUNCTIONS, DefaultScope
from torch.utils.data import DataLoader

from mmcnnmod.errors import UserError

CLASSES = ('cat', 'dog', 'eel')
NORM = dict(mean=[120.0, 110.0, 100.0], std=[50.0, 51.0, 52.0], to_rgb=True)
LOAD = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(autouse=True)
def scope():
    pytest.importorskip('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def folder(tmp_path):
    """Four random images of each class."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / 'images' / name).mkdir(parents=True)
        for i in range(4):
            image = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'images' / name / f'{i}.png'), image)
    return tmp_path / 'images'


def files(folder, pipeline=LOAD):
    return dict(type='CustomDataset', data_root=str(folder), pipeline=pipeline)


def in_memory(folder, **options):
    return DATASETS.build(dict(type='InMemoryDataset', dataset=files(folder), **options))


def preprocessor(kind, **options):
    from mmpretrain.registry import MODELS

    return MODELS.build(dict(type=kind, num_classes=3, **NORM, **options))


def loader(dataset, **options):
    return DataLoader(dataset, collate_fn=FUNCTIONS.get('whole_batch'), **options)


def ordinary(folder):
    """What the ordinary pipeline makes of all images, as one batch without augmentation."""
    from mmengine.dataset import default_collate

    dataset = DATASETS.build(files(folder))
    batch = default_collate([dataset[i] for i in range(len(dataset))])
    return preprocessor('ClsDataPreprocessor')(batch)


def test_the_same_images_and_labels_as_the_ordinary_pipeline(folder):
    (batch,) = loader(in_memory(folder), batch_size=12)
    assert batch['inputs'].dtype == torch.uint8
    actual = preprocessor('InMemoryDataPreprocessor')(batch, training=False)
    expected = ordinary(folder)
    torch.testing.assert_close(actual['inputs'], expected['inputs'])
    labels = [
        [int(sample.gt_label) for sample in out['data_samples']] for out in (actual, expected)
    ]
    assert labels[0] == labels[1] == [0] * 4 + [1] * 4 + [2] * 4


def test_a_loader_gives_every_image_once_in_whole_batches(folder):
    batches = list(loader(in_memory(folder), batch_size=5, shuffle=True))
    assert [len(batch['labels']) for batch in batches] == [5, 5, 2]
    seen = torch.cat([batch['inputs'] for batch in batches]).flatten(1)
    expected = in_memory(folder).images.flatten(1)
    assert sorted(seen.tolist()) == sorted(expected.tolist())
    assert in_memory(folder)[3]['inputs'].shape == (1, 3, 8, 10)


def test_the_loss_of_a_training_batch_is_that_of_single_samples(folder):
    from mmpretrain.models.heads import LinearClsHead

    (batch,) = loader(in_memory(folder), batch_size=12)
    outputs = preprocessor('InMemoryDataPreprocessor', padding=0, flip_prob=0)(batch, training=True)
    expected = ordinary(folder)
    torch.testing.assert_close(outputs['inputs'], expected['inputs'])
    assert len(outputs['data_samples']) == 1
    head = LinearClsHead(3, 5)
    features = (torch.rand(12, 5),)
    torch.testing.assert_close(
        head.loss(features, outputs['data_samples']), head.loss(features, expected['data_samples'])
    )


def test_augmentation_has_the_distribution_of_crop_and_flip():
    """With one pixel of padding there are 3 * 3 crops, mirrored or not."""
    from mmpretrain.registry import TRANSFORMS

    from mmcnnmod.datasets.in_memory_preprocessor import random_crop_flip

    torch.manual_seed(0)
    image = np.arange(1, 13, dtype=np.uint8).reshape(4, 3, 1).repeat(3, 2)
    steps = [
        TRANSFORMS.build(step)
        for step in (
            dict(type='RandomCrop', crop_size=(4, 3), padding=1),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        )
    ]
    outcomes = set()
    for _ in range(400):
        results = dict(img=image)
        for step in steps:
            results = step(results)
        outcomes.add(results['img'][..., 0].tobytes())
    assert len(outcomes) == 18

    n = 3600
    batch = torch.from_numpy(image).permute(2, 0, 1).expand(n, -1, -1, -1)
    found = random_crop_flip(batch, padding=1, flip_prob=0.5)
    assert found.shape == batch.shape
    assert torch.equal(found[:, 0], found[:, 2])
    counts = {}
    for one in found[:, 0].numpy():
        counts[one.tobytes()] = counts.get(one.tobytes(), 0) + 1
    assert set(counts) == outcomes
    # 200 of each are expected, with a standard deviation of 13.7.
    assert all(130 < count < 270 for count in counts.values())


def test_only_training_is_augmented(folder):
    (batch,) = loader(in_memory(folder), batch_size=12)
    process = preprocessor('InMemoryDataPreprocessor', padding=2)
    torch.testing.assert_close(process(batch)['inputs'], process(batch)['inputs'])
    assert not torch.equal(process(batch, True)['inputs'], process(batch, True)['inputs'])


def test_some_classes_and_some_images(folder):
    whole = in_memory(folder)
    part = in_memory(folder, classes=['eel', 'cat'], per_class=3)
    assert part.metainfo['classes'] == ('eel', 'cat')
    assert part.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert torch.equal(part.images, whole.images[[0, 1, 2, 8, 9, 10]])


@pytest.mark.parametrize(
    ('options', 'words'),
    [({'classes': ['cow']}, "no class 'cow'; choose from cat, dog, eel"),
     ({'per_class': 5}, "'cat' has 4 images")],
)  # fmt: skip
def test_what_is_not_there_is_named(folder, options, words):
    with pytest.raises(UserError, match=words):
        in_memory(folder, **options)


def test_unequal_and_damaged_images_are_named(folder):
    cv2.imwrite(str(folder / 'dog' / '2.png'), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match='image 6 has shape'):
        in_memory(folder)
    (folder / 'dog' / '2.png').write_bytes(b'nothing')
    with pytest.raises(UserError, match=r'2\.png cannot be read'):
        in_memory(folder)


def test_what_was_read_once_is_not_read_again(folder, tmp_path):
    first = in_memory(folder, cache_dir=str(tmp_path / 'cache'))
    (folder / 'dog' / '2.png').write_bytes(b'nothing')
    again = in_memory(folder, cache_dir=str(tmp_path / 'cache'))
    assert torch.equal(again.images, first.images)
    part = in_memory(folder, classes=['eel'], cache_dir=str(tmp_path / 'cache'))
    assert torch.equal(part.images, first.images[8:])
    assert not list((tmp_path / 'cache').glob('.*'))


def test_labels_for_each_image_are_refused():
    with pytest.raises(UserError, match='to_onehot'):
        preprocessor('InMemoryDataPreprocessor', to_onehot=True)


def test_the_old_names_warn(folder):
    old = dict(type='ResidentDataset', dataset=files(folder))
    with pytest.warns(FutureWarning, match='ResidentDataset is now called InMemoryDataset'):
        dataset = DATASETS.build(old)
    with pytest.warns(FutureWarning, match='is now called InMemoryDataPreprocessor'):
        process = preprocessor('ResidentDataPreprocessor')
    (batch,) = loader(dataset, batch_size=12)
    assert process(batch)['inputs'].shape == (12, 3, 8, 10)
