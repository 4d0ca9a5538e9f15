# CIFAR by appendix D, which gives neither optimizer nor epochs, so this is mmpretrain's recipe: SGD
# with lr 0.1 divided by 10 after 100 and 150 of 200 epochs, momentum 0.9, weight decay 1e-4, batch
# 128, random crop with padding 4 and flip.
_base_ = [
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmcnnmod'], allow_failed_imports=False)

optim_wrapper = dict(type='OptimWrapper')
# The model that is best on the validation images is tested (appendix D). Two other checkpoints are
# kept, so that one is complete if a run is killed while it saves the next.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
# A fixed seed makes a run repeatable. The paper averages five seeds: tools/experiments/run.py.
randomness = dict(seed=0)
