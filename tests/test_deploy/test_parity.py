"""Comparing a file with PyTorch: differences and ties."""

from copy import deepcopy

import pytest
import torch

from mmcnnmod.deploy.parity import TOLERANCE, Comparison, compare
from mmcnnmod.deploy.parts import part_of, selectors
from mmcnnmod.errors import UserError


class FileInPyTorch:
    """A network in PyTorch with the interface of a file."""

    def __init__(self, part):
        self.part = part

    def __call__(self, images):
        selected = {}
        for name, selector in selectors(self.part).items():
            selector.register_forward_hook(
                lambda module, inputs, output, name=name: selected.update({name: output[0]})
            )
        with torch.no_grad():
            return dict(zip(self.part.names, self.part.compute(images), strict=True)), selected


@pytest.fixture
def network(build):
    return part_of(build('mmpretrain'), 'model')


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32)


def compare_networks(network, other, images):
    return compare(network, images, FileInPyTorch(other), images)


def test_same_network(network, images):
    result = compare_networks(network, deepcopy(network), images)
    assert result.agrees
    assert (result.same, result.tied, result.others) == (12, 0, 0)  # four blocks, three images
    assert result.differences == {'scores': 0.0}
    assert str(result) == 'scores 0.0e+00; selections: 12 the same'


def test_different_weights(network, images):
    other = deepcopy(network)
    with torch.no_grad():
        other.model.backbone.layer4[0].conv1.weight[0, 0] += 0.5
    result = compare_networks(network, other, images)
    assert not result.agrees
    assert result.differences['scores'] > TOLERANCE


def test_nan(network, images):
    other = deepcopy(network)
    with torch.no_grad():
        other.model.head.fc.bias[0] = float('nan')
    assert not compare_networks(network, other, images).agrees


def change_logit(part, by):
    """In the last block, make all logits equal but one, which is larger or smaller by a share."""
    selector = list(selectors(part).values())[-1]
    with torch.no_grad():
        selector.fc2.weight.copy_(selector.fc2.weight[:1].expand_as(selector.fc2.weight))
        selector.fc2.weight[5] *= 1 + by


def test_different_channels_with_equal_logits_are_a_tie(network, images):
    """PyTorch's outputs are computed with the channels that the file selected."""
    other = deepcopy(network)
    change_logit(network, -1e-7)
    change_logit(other, 1e-7)
    result = compare_networks(network, other, images)
    assert result.tied
    assert result.agrees
    assert 'tied' in str(result)


def test_different_channels_with_lower_logits_are_no_tie(network, images):
    other = deepcopy(network)
    change_logit(network, -0.1)
    change_logit(other, 0.1)
    result = compare_networks(network, other, images)
    assert result.others
    assert not result.agrees
    assert 'DIFFERENT' in str(result)


def test_all_selections_are_ties_if_no_hidden_unit_is_active(network, images):
    for selector in selectors(network).values():
        torch.nn.init.constant_(selector.fc1.weight, -1)
    other = deepcopy(network)
    with torch.no_grad():
        for selector in selectors(other).values():
            selector.register_forward_hook(
                lambda module, inputs, output: (output[0].flip(1), output[1])
            )
    result = compare_networks(network, other, images)
    assert result.tied == 9  # in the first block k is 1
    assert result.agrees


def test_labels_may_differ_if_two_logits_are_equal(build):
    network = part_of(build('mmseg'), 'model')
    logits = torch.zeros(1, 11, 4, 4)
    logits[:, 3], logits[:, 7, 0, 0] = 1, 1 + 1e-6
    labels = logits.argmax(1)
    expected = dict(logits=logits, labels=labels)
    other = torch.full_like(labels, 3)
    assert network.differences(expected, dict(logits=logits, labels=other))['labels'] < TOLERANCE
    other[0, 0, 0] = 5
    assert network.differences(expected, dict(logits=logits, labels=other))['labels'] > 0.9


def test_labels_of_a_single_class_may_differ_at_the_threshold(build):
    def one_class(cfg):
        cfg.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.3)

    network = part_of(build('mmseg', one_class), 'model')
    with torch.no_grad():
        logits, labels = network(torch.randn(1, 3, 32, 32))
    assert (labels == (logits.sigmoid() > 0.3)[:, 0]).all()
    logits = torch.tensor(0.3).logit() + torch.tensor([1e-7, 0.5]).reshape(1, 1, 1, 2)
    expected = dict(logits=logits, labels=torch.tensor([[[1, 1]]]))
    for labels, agrees in (([0, 1], True), ([1, 0], False)):
        found = dict(logits=logits, labels=torch.tensor([[labels]]))
        assert (network.differences(expected, found)['labels'] < TOLERANCE) == agrees


def detections(*rows):
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([row[4] for row in rows], dtype=torch.float32)
    labels = torch.tensor([row[5] for row in rows], dtype=torch.long)
    return dict(boxes=boxes, scores=scores, labels=labels)


A, B, C = (0, 0, 50, 50, 0.9, 1), (40, 40, 99, 99, 0.8, 0), (5, 60, 20, 80, 0.7, 1)


@pytest.mark.parametrize(
    ('found', 'unmatched', 'moved'),
    [
        ((B, A, C), 0, 0),  # in another order
        (((0, 0, 50.1, 50, 0.9, 1), B, C), 0, 0.1 / 99),
        ((A, B), 1, 0),  # one missing
        ((A, B, C, (0, 0, 9, 9, 0.1, 1)), 1, 0),  # one too many
        ((A, B, (*C[:5], 0)), 1, 0),  # another label
        ((A, A, B, B, C, C), 3, 0),  # duplicates
        ((A, B, (*C[:4], 0.5, 1)), 1, 0),  # another score
        ((), 3, None),
    ],
)
def test_boxes_are_matched_one_to_one(build, found, unmatched, moved):
    network = part_of(build('mmdet'), 'model')
    expected, found = detections(A, B, C), detections(*found)
    assert network.unmatched(expected, found) == (max(3, len(found['boxes'])), unmatched)
    differences = network.differences(expected, found)
    assert (moved is None) == (not differences)
    if differences:
        assert differences['boxes'] == pytest.approx(moved, abs=1e-6)
    assert Comparison(differences, 1, 0, 0, TOLERANCE, 3, unmatched).agrees == (
        unmatched == 0 and moved == 0
    )


def test_random_selection_cannot_be_compared(build):
    model = build('mmpretrain', lambda cfg: cfg.model.backbone.update(selection='random'))
    with pytest.raises(UserError, match=r"selection='random' cannot be compared"):
        part_of(model, 'model')
