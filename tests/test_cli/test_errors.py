"""Exceptions that become one line, and exceptions that keep their traceback."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmcnnmod.cli.errors import building_from, explain, one_line_errors
from mmcnnmod.errors import UserError


class Segmentor(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 1)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(in_channels, 2, 1))

    def forward(self, x):
        return self.head(self.backbone(x))


def test_shape_mismatch_names_the_layer():
    with pytest.raises(RuntimeError) as error:
        Segmentor(16)(torch.rand(1, 3, 4, 4))
    assert explain(error.value).startswith('head.1 expects 16 input channels but gets 8: set in_ch')


def test_shape_mismatch_in_a_linear_layer():
    with pytest.raises(RuntimeError) as error:
        nn.Sequential(nn.Identity(), nn.Linear(2048, 10))(torch.rand(2, 512))
    assert explain(error.value).startswith('1 expects 2048 input channels but gets 512')


def test_error_in_a_data_loading_process_is_one_line():
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise UserError('image a.jpg cannot be read; replace it')

    with pytest.raises(UserError) as error:
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=1)))
    assert explain(error.value) == 'image a.jpg cannot be read; replace it'


OBJECT = '<object><name>dog</name><bndbox>{}</bndbox></object>'
BOX = ''.join(f'<{side}>{{}}</{side}>' for side in ('xmin', 'ymin', 'xmax', 'ymax'))
SIZE = '<annotation><size><width>9</width><height>9</height></size>'


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('', 'no element found'),
        (SIZE + OBJECT.format(BOX.format(1, 2, 3, 4)), 'no element found'),  # not closed
        (SIZE + OBJECT.format('') + '</annotation>', "has no attribute 'text'"),
        (SIZE + OBJECT.format(BOX.format(1, 2, 'nan', 4)) + '</annotation>', 'NaN to integer'),
        (SIZE + OBJECT.format(BOX.format(1, 2, 'x', 4)) + '</annotation>', "to float: 'x'"),
    ],
)
def test_error_names_damaged_annotation_file(tmp_path, content, words):
    mmdet = pytest.importorskip('mmdet.datasets')
    (tmp_path / 'Annotations').mkdir()
    (tmp_path / 'list.txt').write_text('a\n')
    path = tmp_path / 'Annotations/a.xml'
    path.write_text(content)
    (tmp_path / 'JPEGImages').mkdir()
    (tmp_path / 'JPEGImages/a.jpg').touch()
    with pytest.raises(UserError) as error, building_from('config a.py'):
        mmdet.XMLDataset(
            ann_file=str(tmp_path / 'list.txt'), data_prefix=dict(sub_data_root=str(tmp_path)),
            metainfo=dict(classes=('dog',)),
        )  # fmt: skip
    assert str(error.value).startswith(f'config a.py: {path} cannot be read (')
    assert words in str(error.value)
    assert str(error.value).endswith('; correct or replace it')


@pytest.mark.parametrize('problem', [RuntimeError('a bug'), ZeroDivisionError(), KeyError('x')])
def test_unexpected_error_is_raised_if_there_is_no_debug_option(problem):
    with pytest.raises(type(problem)), one_line_errors():
        raise problem


@pytest.mark.parametrize(
    ('problem', 'line'),
    [
        (RuntimeError('a\nbug'), 'error: config a.py: a bug in test_errors.py, line '),
        (KeyError("choose 'a'\nor b"), "error: config a.py: choose 'a' or b in test_errors"),
        (KeyError('x'), 'error: config a.py: KeyError: x in test_errors.py, line '),
        (AssertionError(), 'error: config a.py: AssertionError in test_errors.py, line '),
    ],
)
@pytest.mark.parametrize('debug', [True, False])
def test_unexpected_error_is_one_line_and_debug_adds_its_traceback(problem, line, debug, capsys):
    with pytest.raises(SystemExit) as end, one_line_errors(debug, 'a.py'):
        raise problem
    assert end.value.code == 1
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith(line)
    assert bool(before) == debug


@pytest.mark.parametrize(
    ('neck', 'expected'),
    [
        (dict(type='mmdet.ResNet', depth=51), r'^a: model\.neck\.0: .*invalid depth 51'),
        (dict(type='ResNot'), r'^a: model\.neck\.0: .*ResNot is not in the '),
        (dict(type='mmdet.ResNet'), r'^a: model\.neck\.0: .*depth'),
        (
            dict(type='mmdet.ResNet', depth=50, norm_cfg=dict(type='NN')),
            r'^a: model\.neck\.0: Cannot find',
        ),
    ],
)
def test_error_names_the_wrong_key(neck, expected):
    registry = pytest.importorskip('mmdet.registry')
    pytest.importorskip('mmdet.models')
    cfg = Config(dict(model=dict(neck=[neck])))
    with pytest.raises(UserError, match=expected), building_from('a', cfg):
        registry.MODELS.build(cfg.model.neck[0])


def test_error_names_no_key_if_it_is_ambiguous():
    registry = pytest.importorskip('mmdet.registry')
    cfg = Config(dict(a=dict(type='X'), b=dict(type='X')))
    with pytest.raises(UserError, match=r'^c: .*X is not in the'), building_from('c', cfg):
        registry.MODELS.build(cfg.b)


def test_error_contains_no_terminal_control_characters(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise UserError('the tensor \x1b[2J\x1b]0;title\x07 is of another shape\u2028')
    assert capsys.readouterr().err == 'error: the tensor [2J ]0;title is of another shape\n'
