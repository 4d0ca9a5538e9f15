"""The measured times in the docs are those of the benchmark's files."""

from mmcnnmod.analysis.files import read_json
from mmcnnmod.analysis.measurements import SPEED_FIELDS
from mmcnnmod.analysis.speed_report import speed_report

from .pages import ROOT

RESULTS = ROOT / 'docs/results'


def test_the_page_is_what_the_benchmark_shows():
    files = sorted((RESULTS / 'speed').glob('*.json'))
    parts = [
        '\n'.join([f'## {path.stem}', '', *speed_report(read_json(path, SPEED_FIELDS)), ''])
        for path in files
    ]
    page = (RESULTS / 'speed.md').read_text('utf-8')
    assert files
    assert page.endswith('\n\n' + '\n'.join(parts))
