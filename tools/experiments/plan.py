"""Reads plans: a YAML file with arms and seeds, a selection from other plans, or a config.

A plan::

    title: CIFAR-10, shortened schedule
    about: A sentence or two about the comparison.
    config: resnet_cifar10_short.py     # relative to the plan; an arm may have its own
    metric: accuracy/top1               # the score, as the toolbox's evaluation names it
    scale: 1                            # a factor for the report, such as 100 for percent
    image_size: [32, 32]                # height and width for counting MACs
    seeds: [0, 1, 2]
    test: false                         # true: the score comes from a test after training
    overrides: {train_cfg.max_epochs: 30}    # for all arms, as for --cfg-options
    arms:                               # the most informative first
      R34: {overrides: {model.backbone.depth: 34}}
      R34-MoD:
        baseline: R34                   # the arm to compare with in the report
        weight: 1.2                     # the duration of a run relative to other arms
        overrides: {model.backbone.type: ResNetMoD_CIFAR, model.backbone.depth: 34}

Only ``title``, ``config``, ``metric``, ``seeds`` and ``arms`` are required. The runs of an arm with
``needs: OTHER`` start after the run of the arm OTHER with the same seed; ``{checkpoint}`` in its
overrides is replaced by the last checkpoint of that run. ``arms: OTHER.yml`` uses the arms of
another plan. With ``test: true`` the score comes from a test of the checkpoint that was best on
validation, or of the last one if the config keeps no best checkpoint (appendix D of the paper).
Otherwise the score is that of the last evaluation.

A selection from other plans, in the order of the runs::

    title: The most informative runs
    include:
      - {plan: cifar10_short.yml, arms: [R34, R34-MoD]}
      - {plan: cifar10_short.yml}       # the remaining arms

A config, ``CONFIG.py``, is a plan with one arm and a test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from mmengine.config import Config

from mmcnnmod.analysis.files import check_fields
from mmcnnmod.cli.config import read_config
from mmcnnmod.config_types import type_name
from mmcnnmod.errors import UserError

REQUIRED = {'title': str, 'metric': str, 'seeds': list, 'arms': dict}
OPTIONS = {'about': str, 'image_size': list, 'test': bool, 'scale': float}
# Options of an arm; in a plan, they apply to all arms.
COMMON = {'config': str, 'overrides': dict}
ARM_OPTIONS = {**COMMON, 'baseline': str, 'needs': str, 'weight': float}
CHECKPOINT = '{checkpoint}'
SEEDS = (0, 1, 2, 3, 4)  # the default for a config, as in Table 9 of the paper
# The default score of a config, by the type of its evaluator.
METRICS = {
    'Accuracy': 'accuracy/top1', 'IoUMetric': 'mIoU', 'VOCMetric': 'pascal_voc/mAP',
    'CocoMetric': 'coco/bbox_mAP',
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """An arm of a comparison, see above. Its overrides include those of the plan."""

    name: str
    config: Path
    overrides: dict = field(default_factory=dict)
    baseline: str | None = None
    needs: str | None = None
    weight: float = 1.0

    @property
    def folder(self) -> str:
        """The name of the arm in paths."""
        return re.sub(r'[^\w.]+', '-', self.name)


@dataclass(frozen=True)
class Plan:
    """A plan with its own arms, see above."""

    path: Path
    title: str
    about: str
    metric: str
    image_size: tuple[int, int] | None
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    scale: float = 1.0
    test: bool = False

    @property
    def name(self) -> str:
        """The name of the file without its suffix. Results and work dirs have this name."""
        return self.path.stem

    @property
    def score(self) -> str:
        """The name of the score in the report."""
        return self.metric if self.scale == 1 else f'{self.metric} x {self.scale:g}'

    @property
    def runs(self) -> list[Run]:
        """The runs of all arms with the first seed, then with the second, ..."""
        return [Run(self, arm, seed) for seed in self.seeds for arm in self.arms.values()]


class Run(NamedTuple):
    """An arm of a plan with one seed."""

    plan: Plan
    arm: Arm
    seed: int

    @property
    def source(self) -> Run | None:
        """The run whose checkpoint this run starts from, or None."""
        needs = self.arm.needs
        return None if needs is None else self._replace(arm=self.plan.arms[needs])

    @property
    def is_needed(self) -> bool:
        """Whether another arm starts from the checkpoint of this run."""
        return any(arm.needs == self.arm.name for arm in self.plan.arms.values())

    @property
    def key(self) -> tuple[str, str, int]:
        """The name of the plan, the name of the arm and the seed."""
        return self.plan.name, self.arm.name, self.seed

    def __str__(self) -> str:
        return f'{self.plan.name}, {self.arm.name}, seed {self.seed}'


def read_runs(path: Path) -> list[Run]:
    """The runs of a plan or a selection, in order and without duplicates."""
    content = read_yaml(path)
    if 'include' not in content:
        return read_plan(path).runs
    check_keys(str(path), content, {'title': str, 'include': list}, {'about': str})
    selected: dict[tuple, Run] = {}
    for i, entry in enumerate(content['include']):
        where = f'{path}: include[{i}]'
        check_keys(where, entry, {'plan': str}, {'arms': list, 'seeds': list})
        runs = read_plan(path.parent / entry['plan']).runs
        for run in select_runs(runs, entry.get('arms'), entry.get('seeds'), where):
            selected.setdefault(run.key, run)
    return list(selected.values())


def select_runs(
    runs: Sequence[Run], arms: list[str] | None, seeds: list[int] | None, where: str
) -> list[Run]:
    """The runs of these arms and seeds; None selects all. Errors begin with ``where``."""
    for kind, wanted, known in (
        ('arm', arms, dict.fromkeys(run.arm.name for run in runs)),
        ('seed', seeds, dict.fromkeys(run.seed for run in runs)),
    ):
        for name in wanted or ():
            if name not in known:
                choices = ', '.join(map(repr, known))
                raise UserError(f'{where} has no {kind} {name!r}; choose from {choices}')
    selected = [
        run
        for run in runs
        if (not arms or run.arm.name in arms) and (not seeds or run.seed in seeds)
    ]
    if not selected:
        raise UserError(f'{where}: the selected arms and seeds contain no run')
    return selected


def plan_of_config(
    path: Path, seeds: Sequence[int] | None = None, metric: str | None = None
) -> Plan:
    """A plan with one arm, a config that is trained with each seed and then tested.

    The default seeds are 0 to 4. The default score is that of ``save_best``, or else of the
    config's evaluator.
    """
    cfg, seeds = read_config(str(path)), tuple(dict.fromkeys(seeds or SEEDS))
    check_seeds('--seeds', seeds)
    arms = {path.stem: Arm(path.stem, path)}
    return Plan(
        path, path.stem, '', metric or default_metric(cfg, path), None, seeds, arms, test=True
    )


def default_metric(cfg: Config, path: Path) -> str:
    """The default score of a config."""
    best = (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('save_best')
    best = best[0] if isinstance(best, (list, tuple)) and best else best
    if best and best != 'auto':
        return best
    evaluators = cfg.get('test_evaluator') or cfg.get('val_evaluator') or []
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        if type_name(evaluator) in METRICS:
            return METRICS[type_name(evaluator)]
    raise UserError(f'config {path}: choose one of the scores of its evaluation with --metric')


def read_plan(path: Path) -> Plan:
    """Read a plan with its own arms, or make one for a config."""
    if path.suffix == '.py':
        return plan_of_config(path)
    content = read_yaml(path)
    if isinstance(content.get('arms'), str):
        content['arms'] = read_yaml(path.parent / content['arms']).get('arms')
    check_keys(str(path), content, REQUIRED, {**OPTIONS, **COMMON})
    check_seeds(f'{path}: seeds', content['seeds'])
    size = content.get('image_size')
    if size and (len(size) != 2 or not all(type(side) is int and side > 0 for side in size)):
        raise UserError(f'{path}: image_size must be height and width, got {size!r:.60}')
    if not content['arms']:
        raise UserError(f'{path}: it has no arms')
    arms: dict[str, Arm] = {}
    for name, options in content['arms'].items():
        arm = read_arm(path, str(name), options or {}, content, arms)
        if arm.folder in {other.folder for other in arms.values()}:
            raise UserError(f'{path}: the names of two arms are too similar: {arm.name}')
        arms[arm.name] = arm
    return Plan(
        path, content['title'], content.get('about', '').strip(), content['metric'],
        tuple(size) if size else None, tuple(content['seeds']), arms,
        scale=float(content.get('scale', 1)), test=content.get('test', False),
    )  # fmt: skip


def read_arm(path: Path, name: str, options: dict, content: dict, earlier: dict[str, Arm]) -> Arm:
    """Read an arm, which may refer to earlier arms."""
    where = f'{path}: arm {name!r}'
    check_keys(where, options, {}, ARM_OPTIONS)
    for key in ('baseline', 'needs'):
        if key in options and options[key] not in earlier:
            raise UserError(f'{where}: there is no earlier arm {options[key]!r} for {key}')
    merged = {**content, **options}
    if 'config' not in merged:
        raise UserError(f'{where}: neither the arm nor the plan has a config')
    config = path.parent / merged['config']
    if not config.is_file():
        raise UserError(f'{where}: config {config} does not exist')
    overrides = {**content.get('overrides', {}), **options.get('overrides', {})}
    weight = float(options.get('weight', 1))
    return Arm(name, config, overrides, options.get('baseline'), options.get('needs'), weight)


def check_keys(where: str, node: object, required: Mapping, options: Mapping) -> None:
    """Raise an error if a value has a wrong type, or a key is missing or unknown."""
    check_fields(where, node, required)
    check_fields(where, node, {name: options[name] for name in options if name in node})
    known = {**required, **options}
    for key in node:
        if key not in known:
            raise UserError(f'{where}: unknown key {key!r}; choose from {", ".join(known)}')
    for key in ('weight', 'scale'):
        if node.get(key, 1) <= 0:
            raise UserError(f'{where}: {key} must be above 0')


def check_seeds(where: str, seeds: Sequence) -> None:
    """Raise an error unless there are seeds and all are valid for torch and numpy."""
    if not seeds or not all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds):
        raise UserError(f'{where} must be numbers from 0 to 2**32 - 1, got {list(seeds)!r:.60}')


def read_yaml(path: Path) -> dict:
    """Read a YAML file that contains a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as problem:
        raise UserError(f'plan {path} cannot be read: {problem.strerror or problem}') from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise UserError(f'plan {path} is not YAML: {" ".join(str(problem).split())}') from problem
    check_fields(str(path), content, {})
    return content
