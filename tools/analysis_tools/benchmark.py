"""Measure the speed of networks: python tools/analysis_tools/benchmark.py.

By default it times ResNet-50, its MoD version, ResNet-75-MoD and ResNet-86-MoD in interleaved
rounds, each MoD network with its skip bound (its MoD blocks replaced by identity):

    benchmark.py --batch-sizes 1 8 --runtimes eager deploy compile   # every combination
    benchmark.py fcn_r50_cityscapes fcn_r50-mod_cityscapes --what training # other configs
    benchmark.py --json FILE                                               # save the results
    benchmark.py --show FILE                                               # print saved results

docs/performance.md explains the columns.
"""

import sys

# No OMP_WAIT_POLICY here, unlike in the other tools: the benchmark uses the defaults of a process.

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('benchmark')
