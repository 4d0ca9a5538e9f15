"""Plans: the order of runs, inherited options, and errors."""

import functools
from copy import deepcopy

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from plan import plan_of_config, read_plan, read_runs

from mmcnnmod.errors import UserError
from mmcnnmod.layers import MoDBlock

from ...utils.tasks import ROOT

FOLDER = ROOT / 'configs/experiments'
PLAN = """
title: Two arms
config: base.py
metric: accuracy/top1
seeds: [0, 3]
overrides: {a.b: 1, a.c: 2}
arms:
  dense:
  MoD: {baseline: dense, needs: dense, weight: 2, config: other.py, overrides: {a.c: 3}}
"""


@functools.cache
def parse(config):
    return Config.fromfile(config)


@pytest.fixture
def write(tmp_path):
    for name in ('base.py', 'other.py'):
        (tmp_path / name).touch()

    def write(text, name='two.yml'):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def keys(path):
    return [run.key for run in read_runs(path)]


def test_all_arms_run_with_a_seed_before_the_next_seed(write, tmp_path):
    path = write(PLAN)
    assert keys(path) == [
        ('two', 'dense', 0), ('two', 'MoD', 0), ('two', 'dense', 3), ('two', 'MoD', 3),
    ]  # fmt: skip
    arm = read_plan(path).arms['MoD']
    assert arm.config == tmp_path / 'other.py'
    assert arm.overrides == {'a.b': 1, 'a.c': 3}
    assert (arm.baseline, arm.needs, arm.weight) == ('dense', 'dense', 2.0)


def test_selection_keeps_its_order_without_duplicates(write):
    write(PLAN)
    path = write(
        'title: some\ninclude:\n- {plan: two.yml, arms: [MoD], seeds: [3]}\n- {plan: two.yml}\n',
        'some.yml',
    )
    assert keys(path) == [
        ('two', 'MoD', 3), ('two', 'dense', 0), ('two', 'MoD', 0), ('two', 'dense', 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('title:', 'titel:', "has no 'title'"),
        ('weight', 'wieght', "'MoD': unknown key 'wieght'"),
        ('baseline: dense', 'baseline: R9', "there is no earlier arm 'R9' for baseline"),
        ('needs: dense', 'needs: MoD', "there is no earlier arm 'MoD' for needs"),
        ('[0, 3]', '[zero]', 'seeds must be'),
        ('config: base.py\n', '', "'dense': neither the arm nor the plan has a config"),
        ('config: base.py\n', 'config: nix.py\n', "'dense': config .*nix.py does not exist"),
        ('weight: 2', 'weight: much', "'weight' must be a number"),
        ('weight: 2', 'weight: 0', 'must be above 0'),
        ('overrides: {a.c: 3}', 'overrides: [1]', "'overrides' must be an object"),
        ('seeds:', 'test: 1\nseeds:', "'test' must be true or false"),
        ('seeds:', 'image_size: 32\nseeds:', "'image_size' must be a list"),
        ('seeds:', 'image_size: [32]\nseeds:', 'image_size must be height and width'),
        ('  MoD:', '  dense?: {}\n  dense!:', 'too similar: dense!'),
        ('title:', '"', 'is not YAML'),
    ],
)
def test_invalid_plan_raises_an_error_of_one_line(write, old, new, words):
    with pytest.raises(UserError, match=words) as error:
        read_runs(write(PLAN.replace(old, new)))
    assert '\n' not in str(error.value)


def test_plan_may_use_the_arms_of_another_plan(write):
    write(PLAN)
    text = PLAN.split('overrides:')[0] + 'arms: two.yml\n'
    plan = read_plan(write(text.replace('[0, 3]', '[5]'), 'one.yml'))
    assert keys(write(text, 'one.yml'))[:2] == [('one', 'dense', 0), ('one', 'MoD', 0)]
    assert plan.arms['MoD'].overrides == {'a.c': 3}
    assert plan.seeds == (5,)
    write('title: x', 'empty.yml')
    path = write(text.replace('two.yml', 'empty.yml'), 'one.yml')
    with pytest.raises(UserError, match="'arms' must be an object"):
        read_plan(path)


def test_selection_of_an_unknown_arm_or_plan_raises_an_error(write):
    write(PLAN)
    path = write('title: some\ninclude:\n- {plan: two.yml, arms: [R9]}\n', 'some.yml')
    with pytest.raises(UserError, match=r"include\[0\].*no arm 'R9'; choose from 'dense', 'MoD'"):
        read_runs(path)
    with pytest.raises(UserError, match=r'none\.yml cannot be read'):
        read_runs(path.with_name('none.yml'))


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.yml')), ids=lambda path: path.stem)
def test_plans_of_the_project_override_existing_settings(path):
    runs = read_runs(path)
    for arm in {run.arm.name: run.arm for run in runs if run.seed == runs[0].seed}.values():
        if arm.config.name.startswith(('fcn', 'faster')):
            pytest.importorskip('mmdet')
        cfg = deepcopy(parse(arm.config))
        for parent in {key.rpartition('.')[0] for key in arm.overrides} - {''}:
            node = cfg
            for key in parent.split('.'):
                assert key in node, f'{arm.name}: {parent}'
                node = node[key]
        cfg.merge_from_dict(dict(arm.overrides))
        schedulers = cfg.param_scheduler
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if 'total_steps' in scheduler:
                assert scheduler.total_steps == cfg.train_cfg.max_epochs
        steps = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
        # The last step is evaluated and saved.
        assert steps % cfg.train_cfg.val_interval == 0
        assert steps % cfg.default_hooks.checkpoint.interval == 0


@pytest.mark.parametrize('plan', ['cifar10_short', 'cifar10_full'])
@pytest.mark.parametrize('name', ['R18-MoD', 'R34-MoD'])
def test_arms_with_deleted_blocks_have_no_mod_blocks(plan, name):
    registry = pytest.importorskip('mmpretrain.registry')
    arms = read_plan(FOLDER / f'{plan}.yml').arms
    for arm, expected in ((arms[name], True), (arms[f'{name}, blocks deleted'], False)):
        cfg = deepcopy(parse(arm.config))
        cfg.merge_from_dict(dict(arm.overrides))
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            backbone = registry.MODELS.build(cfg.model.backbone)
        assert any(isinstance(module, MoDBlock) for module in backbone.modules()) is expected


@pytest.mark.parametrize(
    ('config', 'metric'),
    [
        ('resnet18-mod_cifar10', 'accuracy/top1'),
        ('fcn_r18-mod_camvid', 'mIoU'),
        ('faster-rcnn_r50-mod_fpn_voc0712', 'pascal_voc/mAP'),
    ],
)
def test_config_is_a_plan_with_five_seeds_and_a_test(config, metric):
    for toolbox in ('mmpretrain', 'mmseg', 'mmdet'):
        pytest.importorskip(toolbox)
    plan = plan_of_config(ROOT / f'configs/{config}.py')
    assert (plan.metric, plan.seeds, plan.test) == (metric, (0, 1, 2, 3, 4), True)
    assert list(plan.arms) == [plan.name] == [config]
    assert plan_of_config(ROOT / f'configs/{config}.py', [3, 1, 3], 'x').seeds == (3, 1)
