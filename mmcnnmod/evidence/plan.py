"""What is to be trained: a YAML file with arms and seeds, or with a choice from other plans.

A plan of its own::

    title: CIFAR-10, shortened schedule
    about: What is compared, in a sentence or two.
    config: resnet_cifar10_short.py     # beside the plan; an arm may have another one
    metric: accuracy/top1               # the score, as the toolbox's evaluation calls it
    scale: 1                            # what the page multiplies it by: 100 for shares in percent
    image_size: [32, 32]                # height and width at which MACs are counted
    seeds: [0, 1, 2]
    overrides: {train_cfg.max_epochs: 30}    # settings of all arms, as for --cfg-options
    arms:                               # the most informative first
      R34: {overrides: {model.backbone.depth: 34}}
      R34-MoD:
        baseline: R34                   # what the report compares it with
        weight: 1.2                     # how long it takes, relative to the others
        overrides: {model.backbone.type: ResNetMoD_CIFAR, model.backbone.depth: 34}

An arm with ``needs: OTHER`` starts after that arm's run of the same seed, whose last checkpoint
stands in its overrides as ``{checkpoint}``. ``arms: OTHER.yml`` takes another plan's. Only
``title``, ``config``, ``metric``, ``seeds`` and ``arms`` must be there.

A choice from other plans, in the order in which to run::

    title: What is most worth knowing
    include:
      - {plan: cifar10_short.yml, arms: [R34, R34-MoD]}
      - {plan: cifar10_short.yml}       # the rest of it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from ..analysis.files import check_fields
from ..errors import UserError

PLAN_FIELDS = {'title': str, 'metric': str, 'seeds': list, 'arms': dict}
PLAN_OPTIONS = ('about', 'config', 'image_size', 'scale', 'overrides')
ARM_OPTIONS = ('config', 'overrides', 'baseline', 'needs', 'weight')
CHECKPOINT = '{checkpoint}'


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        name (str): In tables.
        config (Path): What it trains.
        overrides (dict): Settings on top of that, those of the plan included.
        baseline (str | None): The arm that it is compared with.
        needs (str | None): The arm whose checkpoint it starts from.
        weight (float): How long it takes, relative to the plan's other arms.
    """

    name: str
    config: Path
    overrides: dict = field(default_factory=dict)
    baseline: str | None = None
    needs: str | None = None
    weight: float = 1.0

    @property
    def folder(self) -> str:
        """Its name as a part of paths."""
        return re.sub(r'[^\w.]+', '-', self.name)


@dataclass(frozen=True)
class Plan:
    """A plan of its own.

    Attributes:
        name (str): The file's name without its ending; results and logs are called so.
        title (str): The report's heading.
        about (str): The report's first words.
        metric (str): The score, as the toolbox's evaluation calls it.
        scale (float): What the page multiplies it by.
        image_size (tuple[int, int] | None): Height and width at which MACs are counted.
        seeds (tuple[int, ...]): Values of ``randomness.seed``.
        arms (dict[str, Arm]): By name, the most informative first.
    """

    name: str
    title: str
    about: str
    metric: str
    image_size: tuple[int, int] | None
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    scale: float = 1.0

    @property
    def score(self) -> str:
        """What the page calls the score."""
        return self.metric if self.scale == 1 else f'{self.metric} x {self.scale:g}'


class Run(NamedTuple):
    """An arm of a plan with one seed."""

    plan: Plan
    arm: Arm
    seed: int

    @property
    def source(self) -> Run | None:
        """The run whose checkpoint it starts from, if it needs one."""
        needs = self.arm.needs
        return None if needs is None else self._replace(arm=self.plan.arms[needs])

    @property
    def is_needed(self) -> bool:
        """Whether another arm starts from its checkpoint."""
        return any(arm.needs == self.arm.name for arm in self.plan.arms.values())

    @property
    def key(self) -> tuple[str, str, int]:
        """By which it is known."""
        return self.plan.name, self.arm.name, self.seed

    def __str__(self) -> str:
        return f'{self.plan.name}, {self.arm.name}, seed {self.seed}'


def read_runs(path: Path) -> list[Run]:
    """The runs of a plan in their order: all arms with the first seed, then with the second.

    Args:
        path (Path): A plan of its own, or a choice from others.

    Returns:
        list[Run]: Each of them once.

    Raises:
        UserError: If a file is not as the head of this module says.
    """
    content = read_yaml(path)
    if 'include' not in content:
        return runs_of(read_plan(path))
    check_keys(str(path), content, ('title', 'about', 'include'))
    check_fields(str(path), content, {'title': str, 'include': list})
    found: dict[tuple, Run] = {}
    for run in included(path, content['include']):
        found.setdefault(run.key, run)
    return list(found.values())


def included(path: Path, entries: list) -> Iterator[Run]:
    """The runs that the entries of a choice name."""
    for i, entry in enumerate(entries):
        where = f'{path}: include[{i}]'
        check_fields(where, entry, {'plan': str})
        check_keys(where, entry, ('plan', 'arms', 'seeds'))
        check_fields(where, entry, {name: list for name in ('arms', 'seeds') if name in entry})
        plan = read_plan(path.parent / entry['plan'])
        yield from runs_of(plan, entry.get('arms'), entry.get('seeds'), where)


def runs_of(
    plan: Plan,
    arms: list[str] | None = None,
    seeds: list[int] | None = None,
    where: str | None = None,
) -> list[Run]:
    """Those runs of a plan that are of these arms and seeds, or all."""
    for kind, wanted, known in (('arm', arms, plan.arms), ('seed', seeds, plan.seeds)):
        for name in wanted or ():
            if name not in known:
                choices = ', '.join(map(str, known))
                raise UserError(
                    f'{where or plan.name}: {plan.name} has no {kind} {name!r}; choose from '
                    f'{choices}'
                )
    return [
        Run(plan, arm, seed)
        for seed in plan.seeds
        for arm in plan.arms.values()
        if (arms is None or arm.name in arms) and (seeds is None or seed in seeds)
    ]


def read_plan(path: Path) -> Plan:
    """Read a plan of its own.

    Args:
        path (Path): The YAML file.

    Returns:
        Plan: With the paths of configs made whole.

    Raises:
        UserError: If it is not as the head of this module says.
    """
    content = read_yaml(path)
    if isinstance(content.get('arms'), str):
        content['arms'] = read_yaml(path.parent / content['arms']).get('arms')
    check_fields(str(path), content, PLAN_FIELDS)
    check_keys(str(path), content, (*PLAN_FIELDS, *PLAN_OPTIONS))
    seeds = content['seeds']
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError(f'{path}: seeds must be a list of numbers from 0, it is {seeds!r:.60}')
    if not content['arms']:
        raise UserError(f'{path}: it has no arms')
    check_options(str(path), content)
    arms: dict[str, Arm] = {}
    for name, options in content['arms'].items():
        arm = read_arm(path, str(name), options or {}, content, arms)
        if arm.folder in {other.folder for other in arms.values()}:
            raise UserError(f'{path}: the names of two arms are too alike: {arm.name}')
        arms[arm.name] = arm
    size = content.get('image_size')
    return Plan(
        name=path.stem,
        title=content['title'],
        about=content.get('about', '').strip(),
        metric=content['metric'],
        image_size=tuple(size) if size else None,
        seeds=tuple(seeds),
        arms=arms,
        scale=float(content.get('scale', 1)),
    )


def read_arm(path: Path, name: str, options: dict, content: dict, before: dict[str, Arm]) -> Arm:
    """One arm; those that it names must stand before it."""
    where = f'{path}: arm {name!r}'
    check_fields(where, options, {})
    check_keys(where, options, ARM_OPTIONS)
    check_options(where, options)
    for key in ('baseline', 'needs'):
        if options.get(key) is not None and options[key] not in before:
            raise UserError(f'{where}: {key} {options[key]!r} is no arm that stands before it')
    config = options.get('config', content.get('config'))
    if config is None:
        raise UserError(f'{where} has no config, nor has the plan')
    config = path.parent / config
    if not config.is_file():
        raise UserError(f'{where}: config {config} is not there')
    return Arm(
        name=name,
        config=config,
        overrides={**content.get('overrides', {}), **options.get('overrides', {})},
        baseline=options.get('baseline'),
        needs=options.get('needs'),
        weight=float(options.get('weight', 1)),
    )


def check_options(where: str, node: dict) -> None:
    """Fail at an option of a plan or an arm that is of the wrong kind."""
    kinds = {'overrides': dict, 'weight': float, 'scale': float, 'config': str, 'image_size': list}
    check_fields(where, node, {name: kinds[name] for name in kinds if name in node})
    size = node.get('image_size', [1, 1])
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise UserError(f'{where}: image_size must be height and width, it is {size!r:.60}')
    if not all(node.get(name, 1) > 0 for name in ('weight', 'scale')):
        raise UserError(f'{where}: weight and scale must be above 0')


def read_yaml(path: Path) -> dict:
    """A YAML file that holds a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as problem:
        raise UserError(f'plan {path} cannot be read: {problem.strerror or problem}') from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise UserError(f'plan {path} is no YAML: {" ".join(str(problem).split())}') from problem
    check_fields(str(path), content, {})
    return content


def check_keys(where: str, node: dict, known: tuple[str, ...]) -> None:
    """Fail at a key that has no meaning, such as a misspelt one."""
    for key in node:
        if key not in known:
            raise UserError(f'{where}: unknown key {key!r}; choose from {", ".join(known)}')
