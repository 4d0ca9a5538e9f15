"""Which exceptions become one line, and that all others keep their traceback."""

import pytest
import torch
from torch import nn

from mmcnnmod.cli.errors import explain, one_line_errors
from mmcnnmod.errors import UserError


class Segmentor(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 1)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(in_channels, 2, 1))

    def forward(self, x):
        return self.head(self.backbone(x))


def test_a_misfit_names_the_layer():
    with pytest.raises(RuntimeError) as error:
        Segmentor(16)(torch.rand(1, 3, 4, 4))
    assert explain(error.value).startswith('head.1 expects 16 input channels and gets 8: set in_ch')


def test_a_misfit_of_a_classifier():
    with pytest.raises(RuntimeError) as error:
        nn.Sequential(nn.Identity(), nn.Linear(2048, 10))(torch.rand(2, 512))
    assert explain(error.value).startswith('1 expects 2048 input channels and gets 512')


def test_the_original_line_out_of_a_data_loading_process():
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise UserError('image a.jpg cannot be read; replace it')

    with pytest.raises(UserError) as error:
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=1)))
    assert explain(error.value) == 'image a.jpg cannot be read; replace it'


@pytest.mark.parametrize('problem', [RuntimeError('a bug'), ZeroDivisionError(), KeyError('x')])
def test_what_is_not_foreseen_keeps_its_traceback(problem):
    with pytest.raises(type(problem)), one_line_errors():
        raise problem
