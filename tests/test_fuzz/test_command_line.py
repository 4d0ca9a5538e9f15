"""Random options and config files give a model, or one line that says what is wrong."""

import io
import json
import logging
import os
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmcnnmod.checkpoints import safe_loading
from mmcnnmod.cli.arguments import train_parser
from mmcnnmod.cli.errors import one_line_errors
from mmcnnmod.cli.model import build_model
from mmcnnmod.cli.train import training_config

from ..conftest import ROOT
from ..utils.drawing import share

pytestmark = pytest.mark.filterwarnings('ignore')

SMALL = {'model.backbone.base_channels': 16, 'model.backbone.stem_channels': 16}
# Configs, and the settings that make their models small.
CONFIGS = {
    'resnet18_cifar10': SMALL,
    'resnet18-mod_cifar10': {**SMALL, 'model.backbone.r': 4},
    'mobilenet-v2_in1k': {'model.backbone.widen_factor': 0.25},
    'convnext-tiny-mod_in1k': {
        'model.backbone.arch': dict(_delete_=True, depths=[1, 2], channels=[16, 32]),
        'model.backbone.out_indices': [1],
    },
    'fcn_r18-mod_street-scenes': SMALL,
    'faster-rcnn_r50_fpn_voc0712': {
        **SMALL,
        'model.backbone.depth': 18,
        'model.neck.in_channels': [16, 32, 64, 128],
        'model.neck.out_channels': 8,
        'model.rpn_head.in_channels': 8,
        'model.rpn_head.feat_channels': 8,
        'model.roi_head.bbox_roi_extractor.out_channels': 8,
        'model.roi_head.bbox_head.in_channels': 8,
        'model.roi_head.bbox_head.fc_out_channels': 8,
    },
}
# fmt: off
TEXTS = st.sampled_from([
    '', ' ', '0', '1', '-1', '2.5', '1e999', 'nan', 'None', 'True', 'no', 'first', 'replace',
    '[', '])', '()', '[]', '[1,2]', '(1,', '1,2', '[1,[2],(3)]', '(,)', "'", '{}', 'a=b', '=',
    '9' * 30, 'x' * 300, '(' * 999 + ')' * 999, 'two\nlines', '\N{SNOWMAN}', '\0', '\udcff',
    'every', 'ResNet', 'mmseg.ResNet',
])
MOD_KEYS = st.sampled_from([
    'c', 'r', 'position', 'fusion', 'selection', 'placement', 'mod_stages', 'skip_bound', 'depth',
    'cfg', 'log', 'self', 'options', 'type', 'model', 'name', 'order', 'backend', 'zero_init',
    '', ' ', 'c.d', '.', 'c ', '\N{SNOWMAN}', '\udcff', '__class__', '--c', 'init_cfg',
])
VALUES = st.sampled_from([
    None, True, False, -1, 0, 1, 2.5, float('nan'), float('inf'), '', 'no', 'BN', 'ResNetMoD',
    'two\nlines', '\N{SNOWMAN}', '\udcff', b'4', 1j, (), [], {}, [1], [[]], [{}], {1: 2}, {1, 2},
    {'type': 'BN'}, {'type': None}, {'type': 3}, {'type': 'Nothing'}, {'type': []},
    {'_delete_': True}, {'type': 'torch.nn.Identity'}, {'type': 'ResNet', 'depth': 18},
])
# fmt: on
# Lines to insert into a config: each is wrong or has no effect.
LINES = r"""
_base_ = "nowhere.py"
_base_ = 3
_base_ = [
x = {{_base_.x}}
x = "{{ $NO:1 }}"
x = "{{ fileDirname"
import nothing_there
import os
from mmengine.config import read_base
raise OSError
1 / 0
exit()
custom_imports = 3
custom_hooks = 3
default_hooks = 3
default_hooks = dict(checkpoint=3)
optim_wrapper = []
strategy = 3
train_cfg = 5
load_from = "nowhere.pth"
custom_imports = {}
custom_imports = dict(imports=3)
custom_imports = dict(imports=["no.such"])
custom_imports = dict(imports=["no.such"], allow_failed_imports=True)
default_scope = "nowhere"
default_scope = 5
default_scope = ["mmseg"]
default_scope = ""
default_scope = "os"
model = None
model = []
model = dict()
model = 3
model.x = 1
del model
train_dataloader = 3
train_dataloader = []
val_dataloader = dict(num_workers="x")
load_from = 3
resume = []
data = dict()
data_root = 5
work_dir = 5
launcher = []
filename = 1
text = 3
data_preprocessor = 3
env_cfg = 1
x = lambda: 1
x = "\udcff"
x = open
x = range(3)
x = os
x =
x: int
\u0445 = 1
{
{"json": 1}
a: b
if True:
    pass
def f(): pass
class A: pass
break
""".strip().split('\n')
LINES = st.sampled_from(
    [*LINES, '\0', '\ufeff', '\N{CYRILLIC SMALL LETTER HA} = 1', '"""', '\tx = 1', '']
)


@cache
def load(name):
    """One of our configs with all its bases, as plain dicts and lists."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    cfg.merge_from_dict(CONFIGS[name])
    return cfg.to_dict()


@cache
def likely_paths(name):
    """The paths to all values of a config; those of its model are four times as likely."""
    paths = list(iter_paths(load(name)))
    return paths + 3 * [path for path in paths if path[0] == 'model']


def iter_paths(node, path=()):
    """The paths to all values in nested dicts and lists, as tuples of keys."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from iter_paths(value, (*path, key))
        else:
            yield (*path, key)


def python_text(config):
    return ''.join(f'{key} = {value!r}\n' for key, value in config.items())


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A folder for configs, and an empty working directory."""
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'empty')
    # mmengine's loggers keep the captured streams of earlier tests, which are closed by now.
    monkeypatch.setattr(logging, 'raiseExceptions', False)
    return tmp_path / 'configs', tmp_path / 'empty'


def assert_model_or_one_line(folders, *arguments):
    """Training builds its model, or ends with one line; it writes no file."""
    configs, empty = folders
    before = sorted(configs.rglob('*'))
    out, err = io.StringIO(), io.StringIO()
    code, model = 0, None
    with redirect_stdout(out), redirect_stderr(err):
        try:
            model = model_to_train([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    assert sorted(configs.rglob('*')) == before
    assert not os.listdir(empty)
    text = err.getvalue()
    if model is not None:
        assert isinstance(model, torch.nn.Module)
        assert 'error' not in text
        return
    assert 'Traceback' not in text + out.getvalue()
    errors = [line for line in text.splitlines() if 'error: ' in line]
    assert len(errors) == 1, text
    assert text.rstrip().endswith(errors[0])
    if code == 2:  # from argparse, after the usage
        assert ': error: ' in errors[0]
    else:
        assert code == 1
        assert errors[0].startswith('error: ')
        assert '--debug shows the traceback' not in errors[0], errors[0]


def model_to_train(argv):
    """The first steps of tools/train.py."""
    args = train_parser().parse_args(argv)
    with one_line_errors(args.debug, args.config), safe_loading(args.trust_checkpoint):
        cfg = training_config(args)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            return build_model(cfg, args.config)


def write_config(folders, text, suffix='.py'):
    path = folders[0] / f'config{suffix}'
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors='surrogatepass'))
    return path


@share(0.08)
@given(st.data())
def test_mod_options(folders, data):
    name = data.draw(st.sampled_from(list(CONFIGS)), 'config')
    path = write_config(folders, python_text(load(name)))
    good = ['r=4', 'c=4', 'c=2', 'position=last', 'mod_stages=[0,1]', 'depth=26', 'placement=every']
    pairs = st.sampled_from(good) | st.tuples(MOD_KEYS, TEXTS).map('='.join) | TEXTS
    options = data.draw(st.lists(pairs, max_size=3), 'options')
    assert_model_or_one_line(folders, path, '--mod', *options)


@share(0.1)
@given(st.data())
def test_cfg_options(folders, data):
    name = data.draw(st.sampled_from(list(CONFIGS)), 'config')
    path = write_config(folders, python_text(load(name)))
    keys = st.sampled_from(likely_paths(name)).map(lambda keys: '.'.join(map(str, keys)))
    keys = keys | st.tuples(keys, MOD_KEYS).map('.'.join) | MOD_KEYS
    pairs = st.tuples(keys, TEXTS).map('='.join) | TEXTS
    options = data.draw(st.lists(pairs, min_size=1, max_size=3), 'options')
    assert_model_or_one_line(folders, path, '--cfg-options', *options)


@share(0.12)
@given(st.data())
def test_config_files(folders, data):
    name = data.draw(st.sampled_from(list(CONFIGS)), 'config')
    config = deepcopy(load(name))
    for _ in range(data.draw(st.integers(0, 2), 'changes')):
        change(config, data)
    if data.draw(st.integers(0, 9), 'kind') == 0:
        text, suffix = json.dumps(config, default=str), '.json'
    else:
        text, suffix = python_text(config), '.py'
    for _ in range(data.draw(st.integers(0, 2), 'edits')):
        text = edit(text, data)
    suffix = data.draw(st.sampled_from([suffix] * 9 + ['.yml', '.txt', '']), 'suffix')
    options = data.draw(st.sampled_from([[], ['--mod'], ['--data-root', 'x'], ['--work-dir', '']]))
    encoded = text.encode(errors='surrogatepass')
    if data.draw(st.integers(0, 9), 'bytes') == 0:
        encoded = data.draw(st.sampled_from([b'', b'\xff\xfe', b'\x80', b'\xef\xbb\xbf'])) + encoded
    assert_model_or_one_line(folders, write_config(folders, encoded, suffix), *options)


def change(config, data):
    """Delete or replace a value of the config."""
    *keys, last = data.draw(st.sampled_from(list(iter_paths(config))), 'where')
    node = config
    for key in keys:
        node = node[key]
    if isinstance(node, tuple):
        return
    if data.draw(st.booleans(), 'delete'):
        del node[last]
    else:
        node[last] = data.draw(VALUES, 'value')


def edit(text, data):
    """Insert or delete a line or characters, or cut the text off."""
    lines = text.split('\n')
    i = data.draw(st.integers(0, len(lines) - 1), 'line')
    kind = data.draw(st.sampled_from(['insert', 'delete', 'cut', 'shorten']), 'edit')
    if kind == 'insert':
        lines.insert(i, data.draw(LINES, 'inserted'))
    elif kind == 'delete':
        del lines[i]
    elif kind == 'cut':
        start = data.draw(st.integers(0, len(lines[i])), 'at')
        lines[i] = lines[i][:start] + lines[i][start + data.draw(st.integers(1, 3), 'n') :]
    else:
        lines = [*lines[:i], lines[i][: data.draw(st.integers(0, len(lines[i])), 'to')]]
    return '\n'.join(lines)
