"""The times in the docs are those in the files of the benchmark."""

import re

from mmcnnmod.analysis.files import read_json
from mmcnnmod.analysis.measurements import SPEED_FIELDS
from mmcnnmod.analysis.speed import speed_report

from .pages import ROOT

RESULTS = ROOT / 'docs/results'


def test_speed_page_shows_the_files():
    files = sorted((RESULTS / 'speed').glob('*.json'))
    parts = [
        '\n'.join([f'## {path.stem}', '', *speed_report(read_json(path, SPEED_FIELDS)), ''])
        for path in files
    ]
    page = (RESULTS / 'speed.md').read_text('utf-8')
    assert files
    assert page.endswith('\n\n' + '\n'.join(parts))


def test_readme_shows_the_speedups_of_the_file():
    content = read_json(RESULTS / 'speed/cpu_inference.json', SPEED_FIELDS)
    measured = {
        (result['config'], result['batch_size']): f'{result["speedup"]:.2f}'
        for result in content['results']
        if (result['what'], result['runtime']) == ('inference', 'deploy')
        and result['memory_format'] == 'contiguous'
        and 'speedup' in result
    }
    readme = (ROOT / 'README.md').read_text('utf-8')
    rows = re.findall(r'^\| ResNet-(\d+-MoD) \|.*\| (\S+) \| (\S+) \|$', readme, re.MULTILINE)
    shown = {
        (f'resnet{name.lower()}_in1k', batch): value
        for name, *values in rows
        for batch, value in zip((1, 8), values, strict=True)
    }
    assert shown == measured
