"""Swapping, training, testing and drawing in toolboxes that only `make toolboxes` installs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from mmengine.config import Config

from mmcnnmod.cli import test as testing
from mmcnnmod.cli import train as training
from mmcnnmod.swap import iter_dicts

pytestmark = pytest.mark.filterwarnings('ignore')
SIDE = 128


def upstream(package, name, folder):
    """A config of an installed toolbox, for a few small images and random dense weights."""
    module = pytest.importorskip(package)
    pytest.importorskip(f'{package}.models')
    cfg = Config.fromfile(Path(module.__file__).parent / '.mim/configs' / name)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].update(num_workers=0, persistent_workers=False, batch_size=2)
        for _, node, _ in iter_dicts(cfg[loader], loader):
            if node.get('type') in ('Resize', 'mmdet.Resize'):
                node.scale = (SIDE, SIDE)
    torch.save(torchvision.models.resnet50().state_dict(), folder / 'r50.pth')
    cfg.model.backbone.init_cfg.checkpoint = str(folder / 'r50.pth')
    cfg.train_cfg.max_epochs = 1
    return cfg


def train_test_and_draw(cfg, folder, monkeypatch):
    """Run the programs in tools/; return the scores."""
    monkeypatch.chdir(folder)
    cfg.dump(folder / 'dense.py')
    training.main(['dense.py', '--mod', '--work-dir', 'out', '--no-validate'])
    trained = Config.fromfile(folder / 'out' / 'dense.py')
    assert trained.model.backbone.type.endswith('ResNetMoD')
    scores = folder / 'scores.json'
    arguments = ['dense.py', 'out/epoch_1.pth', '--mod', '--work-dir', 'out', '--show-dir', 'drawn']
    testing.main([*arguments, '--out', str(scores), '--out-item', 'metrics', '--deploy'])
    assert list((folder / 'out').rglob('drawn/*'))
    testing.main(['dense.py', 'out/epoch_1.pth', '--mod', '--work-dir', 'out', '--out', 'a.pkl'])
    assert (folder / 'a.pkl').stat().st_size
    return json.loads(scores.read_text())


def test_mmrotate_uses_the_resnet_of_mmdet(tmp_path, monkeypatch):
    cfg = upstream(
        'mmrotate', 'rotated_retinanet/rotated-retinanet-rbox-le90_r50_fpn_1x_dota.py', tmp_path
    )
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()
    for i in range(4):
        picture = np.full((SIDE, SIDE, 3), 90 + 20 * i, np.uint8)
        corners = np.array([[30, 20], [90, 40], [80, 70], [20, 50]])
        cv2.fillPoly(picture, [corners], (200, 60, 30))
        cv2.imwrite(str(tmp_path / f'images/P{i}.png'), picture)
        label = ' '.join(map(str, corners.flatten())) + ' plane 0\n'
        (tmp_path / f'labels/P{i}.txt').write_text(label)
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset = cfg[loader].dataset
        dataset.update(
            data_root=f'{tmp_path}/', ann_file='labels/', data_prefix=dict(img_path='images/')
        )
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    assert 'dota/mAP' in train_test_and_draw(cfg, tmp_path, monkeypatch)


def test_mmpose_uses_its_own_resnet(tmp_path, monkeypatch):
    name = 'body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
    cfg = upstream('mmpose', name, tmp_path)
    (tmp_path / 'images').mkdir()
    images, people = [], []
    for i in range(4):
        cv2.imwrite(str(tmp_path / f'images/{i}.png'), np.full((SIDE, SIDE, 3), 60 * i, np.uint8))
        images.append(dict(id=i, file_name=f'{i}.png', height=SIDE, width=SIDE))
        points = [value for n in range(17) for value in (20 + 5 * n, 30 + 4 * n, 2)]
        people.append(
            dict(id=i, image_id=i, category_id=1, bbox=[10, 10, 100, 100], area=9000, iscrowd=0,
                 keypoints=points, num_keypoints=17)
        )  # fmt: skip
    content = dict(images=images, annotations=people, categories=[dict(id=1, name='person')])
    (tmp_path / 'people.json').write_text(json.dumps(content))
    for loader in ('train_dataloader', 'val_dataloader'):
        cfg[loader].dataset.update(
            data_root=f'{tmp_path}/', ann_file='people.json', data_prefix=dict(img='images/')
        )
        cfg[loader].dataset.pop('bbox_file', None)
    cfg.val_evaluator.ann_file = str(tmp_path / 'people.json')
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    assert 'coco/AP' in train_test_and_draw(cfg, tmp_path, monkeypatch)
