"""Counting the channels that selectors select."""

import csv
import math

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from mmcnnmod.analysis import (
    ChannelUsage,
    add_selections,
    mod_blocks,
    recorded_selections,
    selection_entropy,
    share_selected,
)
from mmcnnmod.analysis.usage_files import save_csv, save_picture
from mmcnnmod.layers import MoDBlock, basic_block

C, K = 8, 2


class LargestMean(nn.Module):
    """A selector that selects the k channels with the largest mean."""

    def forward(self, x):
        top, index = x.mean((2, 3)).topk(K)
        return index, top.sigmoid()


def make_block():
    block = MoDBlock(C, basic_block, c=C // K, r=1)
    block.selector = LargestMean()
    return block


def maps_that_select(*selections):
    """A batch with one feature map for each tuple of channels to select."""
    maps = torch.zeros(len(selections), C, 3, 3)
    for each, channels in zip(maps, selections, strict=True):
        each[list(channels)] = 1
    return maps


def test_names_of_mod_blocks_have_no_prefixes():
    backbone = nn.Sequential(nn.Conv2d(3, C, 1), make_block(), nn.Sequential(make_block()))
    model = nn.ModuleDict({'backbone': backbone})
    expected = {'1': backbone[1], '2.0': backbone[2][0]}
    for network in (backbone, model, nn.ModuleDict({'module': model})):
        assert mod_blocks(network) == expected
    assert list(mod_blocks(model)) == list(expected)
    assert mod_blocks(nn.Linear(1, 1)) == {}


def test_selections_are_counted_for_each_group():
    block = make_block()
    usage = ChannelUsage('layer3.1', C, K, ['all', 'cat', 'dog'])
    with recorded_selections(block) as selections:
        for maps, members in [
            (maps_that_select((0, 1), (0, 2)), [[1, 1, 0], [1, 0, 1]]),
            (maps_that_select((0, 7)), [[1, 1, 1]]),
        ]:
            selections.clear()
            block(maps)
            usage.add(selections, torch.tensor(members, dtype=torch.bool))
    block(maps_that_select((5, 6)))
    assert len(selections) == 1  # nothing is recorded after the `with`
    assert usage.images.tolist() == [3, 2, 2]
    assert usage.counts.tolist() == [
        [3, 1, 1, 0, 0, 0, 0, 1],
        [2, 1, 0, 0, 0, 0, 0, 1],
        [2, 0, 1, 0, 0, 0, 0, 1],
    ]
    # Of all selections in the block: 3 images, 2 channels each.
    assert usage.percentages()[0].tolist() == [50, *[100 / 6] * 2, 0, 0, 0, 0, 100 / 6]


def test_sliding_windows_count_each_window_and_each_image_once():
    usage = ChannelUsage('layer3.1', C, K, ['all'])
    windows = [torch.tensor([[0, 1]]), torch.tensor([[0, 3]])]
    usage.add(windows, torch.tensor([[True]]))
    assert usage.counts.tolist() == [[2, 1, 0, 1, 0, 0, 0, 0]]
    assert usage.images.tolist() == [1]
    with pytest.raises(ValueError, match=r'layer3\.1: 1 samples .* for 2 images'):
        usage.add(windows, torch.tensor([[True], [True]]))


def test_percentages_of_a_group_without_images_are_0():
    usage = ChannelUsage('layer3.1', C, K, ['all', 'none'])
    usage.add([torch.tensor([[0, 1]])], torch.tensor([[True, False]]))
    assert usage.percentages().sum(1).tolist() == [100, 0]


def test_add_selections_to_counts_of_a_batch_or_of_each_sample():
    index = torch.tensor([[0, 2], [2, 3]])
    of_batch, of_samples = torch.zeros(4, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.int64)
    for _ in range(2):
        add_selections(of_batch, index)
        add_selections(of_samples, index)
    assert of_samples.tolist() == [[2, 0, 2, 0], [0, 0, 2, 2]]
    assert torch.equal(of_batch, of_samples.sum(0))


def test_share_and_entropy():
    same = torch.tensor([9, 9, 0, 0, 0, 0, 0, 0])
    assert share_selected(same) == K / C
    assert selection_entropy(same) == pytest.approx(math.log(K) / math.log(C))
    even = torch.full((C,), 5)
    assert share_selected(even) == 1
    assert selection_entropy(even) == pytest.approx(1)
    uneven = torch.tensor([97, 1, 1, 1, 1, 1, 1, 1])
    assert share_selected(uneven) == 1
    assert selection_entropy(same) > selection_entropy(uneven) > 0
    assert selection_entropy(torch.tensor([3])) == 1


@pytest.fixture
def usage():
    usage = ChannelUsage('layer3.1', C, K, ['all classes', 'church, church building'])
    members = torch.tensor([[True, True], [True, False]])
    usage.add([torch.tensor([[0, 1], [0, 2]])], members)
    return usage


def test_csv(usage, tmp_path):
    save_csv(usage, tmp_path / 'usage.csv')
    with (tmp_path / 'usage.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * C
    assert rows[0] == {
        'class': 'all classes',
        'images': '2',
        'channel': '0',
        'times_selected': '2',
        'percent_of_all_selections': '50.0000',
    }
    church = [row for row in rows if row['class'] == 'church, church building']
    assert [int(row['times_selected']) for row in church] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert {row['images'] for row in church} == {'1'}


@pytest.mark.parametrize('groups', [1, 2, 5])
def test_picture(tmp_path, groups, monkeypatch):
    save, figures = Figure.savefig, []

    def record_and_save(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', record_and_save)
    usage = ChannelUsage('layer3.1', C, K, [f'class {i}' for i in range(groups)])
    usage.add([torch.tensor([[0, 1]])], torch.ones(1, groups, dtype=torch.bool))
    save_picture(usage, tmp_path / 'usage.png')
    with Image.open(tmp_path / 'usage.png') as picture:
        assert picture.format == 'PNG'
        picture.load()
        pixels = picture.convert('L')
    assert pixels.getextrema() == (0, 255)
    panels = figures[0].get_axes()
    assert [panel.get_visible() for panel in panels] == [i < groups for i in range(len(panels))]
