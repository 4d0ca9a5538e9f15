"""The figure of accuracy against cost."""

import pytest

from mmcnnmod.analysis.tradeoff import Network, tradeoff


@pytest.mark.parametrize(
    ('config', 'family', 'is_mod', 'label'),
    [
        ('resnet50_in1k', 'ResNet', False, '50'),
        ('resnet50-mod-random_in1k', 'ResNet', True, '50-random'),
        ('mobilenet-v2_in1k', 'MobileNetV2', False, ''),
        ('mobilenet-v2-mod-l_in1k', 'MobileNetV2', True, 'L'),
        ('vgg16-bn-mod_cifar10', 'VGG', True, '16-bn'),
        ('convnext-tiny-mod_in1k', 'ConvNeXt', True, 'tiny'),
        ('own', 'own', False, ''),
    ],
)
def test_family_and_label_of_a_config(config, family, is_mod, label):
    network = Network(config, 70.0, {})
    assert (network.family, network.is_mod, network.label) == (family, is_mod, label)


def test_panel_shows_the_networks_that_have_its_cost():
    networks = [
        Network('resnet50_in1k', 76.0, dict(a=4.0, b=2.0, c=1.0)),
        Network('resnet50-mod_in1k', 75.0, dict(a=3.0, b=1.0)),
        Network('resnet75-mod_in1k', 77.0, dict(a=3.5, b=1.5)),
    ]
    labels = dict(a='cost A', b='cost B', c='cost C', d='cost D')
    figure = tradeoff(networks, labels, 'a title', 'accuracy')
    panels = figure.axes
    assert [panel.get_xlabel() for panel in panels] == list(labels.values())
    shown = [
        sorted(tuple(point) for line in panel.get_lines() if line.get_marker() != 'None'
               for point in line.get_xydata())
        for panel in panels
    ]  # fmt: skip
    assert shown == [
        [(3.0, 75.0), (3.5, 77.0), (4.0, 76.0)],
        [(1.0, 75.0), (1.5, 77.0), (2.0, 76.0)],
        [(1.0, 76.0)],
        [],
    ]
    assert [text.get_text() for text in panels[3].texts] == ['not measured']
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['ResNet', 'ResNet-MoD']
