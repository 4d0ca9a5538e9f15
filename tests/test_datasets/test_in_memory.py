"""Images in memory and augmentation on the device, compared with mmpretrain's pipeline."""

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, FUNCTIONS, DefaultScope
from torch.utils.data import DataLoader

from mmcnnmod.errors import UserError

CLASSES = ('cat', 'dog', 'eel')
NORM = dict(mean=[120.0, 110.0, 100.0], std=[50.0, 51.0, 52.0], to_rgb=True)

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(autouse=True)
def scope():
    pytest.importorskip('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def folder(tmp_path):
    """A folder with four random images of each class."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / 'images' / name).mkdir(parents=True)
        for i in range(4):
            image = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'images' / name / f'{i}.png'), image)
    return tmp_path / 'images'


def custom_dataset(folder):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    return dict(type='CustomDataset', data_root=str(folder), pipeline=pipeline)


def build_dataset(folder, **options):
    return DATASETS.build(dict(type='InMemoryDataset', dataset=custom_dataset(folder), **options))


def build_preprocessor(kind='InMemoryDataPreprocessor', **options):
    from mmpretrain.registry import MODELS

    return MODELS.build(dict(type=kind, num_classes=3, **NORM, **options))


def load(dataset, batch_size=12, shuffle=False):
    """The batches of a data set."""
    collate = FUNCTIONS.get('whole_batch')
    return list(DataLoader(dataset, batch_size, shuffle, collate_fn=collate))


def mmpretrain_batch(folder):
    """All images as one batch of mmpretrain's pipeline, without augmentation."""
    from mmengine.dataset import default_collate

    batch = default_collate(list(DATASETS.build(custom_dataset(folder))))
    return build_preprocessor('ClsDataPreprocessor')(batch)


def test_images_and_labels_are_those_of_mmpretrains_pipeline(folder):
    (batch,) = load(build_dataset(folder))
    assert batch['inputs'].dtype == torch.uint8
    actual = build_preprocessor()(batch, training=False)
    expected = mmpretrain_batch(folder)
    torch.testing.assert_close(actual['inputs'], expected['inputs'])
    labels = [
        [int(sample.gt_label) for sample in out['data_samples']] for out in (actual, expected)
    ]
    assert labels[0] == labels[1] == [0] * 4 + [1] * 4 + [2] * 4


def test_loader_returns_each_image_once_in_batches(folder):
    dataset = build_dataset(folder)
    batches = load(dataset, batch_size=5, shuffle=True)
    assert [len(batch['labels']) for batch in batches] == [5, 5, 2]
    images = torch.cat([batch['inputs'] for batch in batches]).flatten(1)
    assert sorted(images.tolist()) == sorted(dataset.images.flatten(1).tolist())
    assert dataset[3]['inputs'].shape == (1, 3, 8, 10)


def test_loss_of_a_training_batch_is_that_of_single_samples(folder):
    from mmpretrain.models.heads import LinearClsHead

    (batch,) = load(build_dataset(folder))
    outputs = build_preprocessor(padding=0, flip_prob=0)(batch, training=True)
    expected = mmpretrain_batch(folder)
    torch.testing.assert_close(outputs['inputs'], expected['inputs'])
    assert len(outputs['data_samples']) == 1
    head = LinearClsHead(3, 5)
    features = (torch.rand(12, 5),)
    torch.testing.assert_close(
        head.loss(features, outputs['data_samples']), head.loss(features, expected['data_samples'])
    )


def test_augmentation_has_the_distribution_of_crop_and_flip():
    """With one pixel of padding there are 3 * 3 crops, flipped or not."""
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

    batch = torch.from_numpy(image).permute(2, 0, 1).expand(3600, -1, -1, -1)
    augmented = random_crop_flip(batch, padding=1, flip_prob=0.5)
    assert augmented.shape == batch.shape
    assert torch.equal(augmented[:, 0], augmented[:, 2])
    counts = Counter(channel.tobytes() for channel in augmented[:, 0].numpy())
    assert set(counts) == outcomes
    # Each count has an expected value of 200 and a standard deviation of 13.7.
    assert all(130 < count < 270 for count in counts.values())


def test_only_training_is_augmented(folder):
    (batch,) = load(build_dataset(folder))
    process = build_preprocessor(padding=2)
    torch.testing.assert_close(process(batch)['inputs'], process(batch)['inputs'])
    assert not torch.equal(process(batch, True)['inputs'], process(batch, True)['inputs'])


def test_classes_and_per_class_select_images(folder):
    images = build_dataset(folder).images
    part = build_dataset(folder, classes=['eel', 'cat'], per_class=3)
    assert part.metainfo['classes'] == ('eel', 'cat')
    assert part.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert torch.equal(part.images, images[[0, 1, 2, 8, 9, 10]])


@pytest.mark.parametrize(
    ('options', 'words'),
    [({'classes': ['cow']}, "no class 'cow'; choose from cat, dog, eel"),
     ({'per_class': 5}, "'cat' has 4 images")],
)  # fmt: skip
def test_missing_class_or_image_raises_an_error(folder, options, words):
    with pytest.raises(UserError, match=words):
        build_dataset(folder, **options)


def test_image_of_another_size_or_damaged_image_raises_an_error(folder):
    cv2.imwrite(str(folder / 'dog' / '2.png'), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match='image 6 has shape'):
        build_dataset(folder)
    (folder / 'dog' / '2.png').write_bytes(b'nothing')
    with pytest.raises(UserError, match=r'2\.png cannot be read'):
        build_dataset(folder)


def test_cached_images_are_not_read_again(folder, tmp_path):
    cache = dict(cache_dir=str(tmp_path / 'cache'))
    images = build_dataset(folder, **cache).images
    (folder / 'dog' / '2.png').write_bytes(b'nothing')
    assert torch.equal(build_dataset(folder, **cache).images, images)
    assert torch.equal(build_dataset(folder, classes=['eel'], **cache).images, images[8:])
    assert not list((tmp_path / 'cache').glob('.*'))


def test_one_hot_labels_raise_an_error():
    with pytest.raises(UserError, match='to_onehot'):
        build_preprocessor(to_onehot=True)


def test_old_names_warn(folder):
    old = dict(type='ResidentDataset', dataset=custom_dataset(folder))
    with pytest.warns(FutureWarning, match='ResidentDataset is now called InMemoryDataset'):
        dataset = DATASETS.build(old)
    with pytest.warns(FutureWarning, match='is now called InMemoryDataPreprocessor'):
        process = build_preprocessor('ResidentDataPreprocessor')
    (batch,) = load(dataset)
    assert process(batch)['inputs'].shape == (12, 3, 8, 10)
