"""How fast networks are here: python tools/analysis_tools/benchmark.py.

ResNet-50, its MoD version, ResNet-75-MoD and ResNet-86-MoD in one run, in turns, each MoD network
beside its skip bound, the same network with identity in place of its MoD blocks:

    benchmark.py --batch-sizes 1 8 --runtimes eager deploy compile   # every combination
    benchmark.py fcn_r50_cityscapes fcn_r50-mod_cityscapes --what training # other configs
    benchmark.py --json FILE                                               # and keep the results
    benchmark.py --show FILE                                               # print them again

docs/performance.md says what the columns mean.
"""

import sys

# No OMP_WAIT_POLICY here, unlike in the other tools: timed is what a process does by default.

if __name__ == '__main__':
    try:
        from mmcnnmod.cli import launch
    except ModuleNotFoundError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    launch('benchmark')
