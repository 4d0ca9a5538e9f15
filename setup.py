"""Packaging of mmcnnmod.

Nothing is required: a plugin must not replace the torch or the mmcv that its user has compiled,
so the OpenMMLab packages are extras. Like the toolboxes' own wheels, ours carries the configs, the
tools and the model index in `mmcnnmod/.mim`, where MIM looks for them.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')
# Programs for work on this repository, and the old names of such programs.
REPOSITORY_TOOLS = (
    'experiments',
    'evidence',
    'train_seeds.py',
    'measure_speed.sh',
    'sweep_upstream_configs.py',
    'write_metafile.py',
)


class BuildWithMim(build_py):
    """Fills `mmcnnmod/.mim`: with copies in a wheel, with links in an editable install."""

    def run(self):
        """Builds the modules, then `.mim`."""
        super().run()
        package = ROOT if self.editable_mode else Path(self.build_lib)
        mim = package / 'mmcnnmod' / '.mim'
        # A left-over `build/` would otherwise bring files that the tree no longer has.
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in MIM_ENTRIES:
            source = ROOT / name
            if self.editable_mode:
                # A link may dangle for a while: docker/Dockerfile installs before it copies the
                # sources.
                (mim / name).symlink_to(os.path.relpath(source, mim))
            elif source.is_dir():
                left_out = REPOSITORY_TOOLS if name == 'tools' else ()
                ignore = shutil.ignore_patterns('__pycache__', '*.py[co]', *left_out)
                shutil.copytree(source, mim / name, ignore=ignore)
            else:
                shutil.copy2(source, mim / name)


def read(name):
    """Returns the text of a file of the source tree."""
    return (ROOT / name).read_text(encoding='utf-8')


def requirements(name):
    """Returns the requirement lines of a file in requirements/, without comments and options."""
    lines = (line.strip() for line in read(f'requirements/{name}.txt').splitlines())
    return [line for line in lines if line and not line.startswith(('#', '-'))]


setup(
    name='mmcnnmod',
    version=re.search(r"__version__ = '(.+)'", read('mmcnnmod/version.py')).group(1),
    description='CNN Mixture-of-Depths backbones for MMPretrain, MMSegmentation and MMDetection',
    long_description=read('README.md') if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    author='mmcnnmod authors',
    license='Apache-2.0',
    keywords='computer vision, backbone, mixture of depths, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmcnnmod', 'mmcnnmod.*']),
    package_data={
        'mmcnnmod.analysis': ['paper_tables.json'],
        'mmcnnmod.ops': ['mod_block.cpp'],
    },
    python_requires='>=3.10',
    install_requires=[],
    # torch and the build tools stand in requirements/*-torch.txt, and so in no extra.
    extras_require={
        name: requirements(name) for name in ('onedl', 'openmmlab', 'tests', 'runtimes')
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
