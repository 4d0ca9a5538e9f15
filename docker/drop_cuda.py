"""Remove from an image without a GPU the files of torch's CUDA build that only a GPU needs.

Importing torch maps the libraries that it is linked to. The other libraries next to them are loaded
when a GPU is used, or are for compilers.
"""

from pathlib import Path

import torch

packages = Path(torch.__file__).resolve().parents[1]  # the form of the paths in /proc/self/maps
mapped = {line.split()[-1] for line in Path('/proc/self/maps').read_text().splitlines()}
assert str(packages / 'torch/lib/libtorch_cpu.so') in mapped
unused = [
    path
    for folder, pattern in (('nvidia', 'lib*'), ('torch/lib', '*.so'), ('torch/bin', 'ptxas'))
    for path in (packages / folder).rglob(pattern)
    if path.is_file() and str(path) not in mapped
]
print(f'removing {sum(path.stat().st_size for path in unused) / 1e6:.0f} MB that a GPU needs')
for path in unused:
    path.unlink()
