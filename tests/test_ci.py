"""Workflows, hooks of pre-commit and issue forms."""

import re
import shlex
from itertools import pairwise

import pytest
import yaml

from .conftest import ROOT

WORKFLOWS = sorted(ROOT.glob('.github/workflows/*.yml'))
FORMS = sorted(ROOT.glob('.github/ISSUE_TEMPLATE/*.yml'))


def load(path):
    return yaml.safe_load((ROOT / path).read_text())


def commands(path):
    """The commands of the steps of a workflow."""
    jobs = load(path)['jobs'].values()
    return [step['run'] for job in jobs for step in job['steps'] if 'run' in step]


def test_ci_workflow_has_the_steps_of_the_local_check():
    steps = re.findall(r'^step (.+)$', (ROOT / '.ci/run').read_text(), re.MULTILINE)
    assert 'make test-all' in steps
    workflow = commands('.github/workflows/ci.yml')
    assert [command for command in workflow if command.startswith('make ')] == steps


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_files_and_targets_of_workflows_exist(path):
    makefile = (ROOT / 'Makefile').read_text()
    for command in commands(path):
        words = shlex.split(command)
        for option, file in pairwise(words):
            assert option != '-r' or (ROOT / file).is_file(), file
        if words[0] == 'make':
            assert re.search(rf'^{words[1]}:', makefile, re.MULTILINE), words[1]
            for variable in (word.split('=')[0] for word in words[2:]):
                assert re.search(rf'^{variable} \?=', makefile, re.MULTILINE), variable
    for file in re.findall(r'hashFiles\((.+)\)', path.read_text()):
        for pattern in re.findall(r"'(.+?)'", file):
            assert list(ROOT.glob(pattern)), pattern


def test_hooks_use_the_pinned_ruff_and_check_the_cpp_sources():
    repos = load('.pre-commit-config.yaml')['repos']
    repos = {repo['repo'].rsplit('/', 1)[1]: repo for repo in repos}
    ruff = repos['ruff-pre-commit']['rev'].removeprefix('v')
    assert f'ruff=={ruff}\n' in (ROOT / 'requirements/tests.txt').read_text()
    (clang_format,) = repos['mirrors-clang-format']['hooks']
    sources = [path.relative_to(ROOT).as_posix() for path in ROOT.glob('mmcnnmod/**/*.cpp')]
    assert sources
    assert all(re.search(clang_format['files'], source) for source in sources)


@pytest.mark.parametrize('path', FORMS, ids=lambda path: path.name)
def test_issue_forms_are_valid(path):
    form = load(path)
    assert form['name']
    assert form['description']
    fields = [field for field in form['body'] if field['type'] != 'markdown']
    assert len({field['id'] for field in fields}) == len(fields) > 0
    assert all(field['type'] == 'textarea' and field['attributes']['label'] for field in fields)


def test_bug_report_asks_for_the_information_to_reproduce_it():
    body = load('.github/ISSUE_TEMPLATE/bug_report.yml')['body']
    fields = {field.get('id'): field for field in body}
    asked = {'config', 'command', 'error', 'environment'}
    assert asked <= set(fields)
    code = re.search(r'`python -c "(.+?)"`', fields['environment']['attributes']['description'])[1]
    exec(code)
