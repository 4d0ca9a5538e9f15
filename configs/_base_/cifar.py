# CIFAR by appendix D, which names neither optimiser nor epochs, so this is mmpretrain's recipe: SGD
# with lr 0.1 divided by 10 after 100 and 150 of 200 epochs, momentum 0.9, weight decay 1e-4, batch
# 128, random crop with padding 4 and flip.
_base_ = [
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmcnnmod'], allow_failed_imports=False)

optim_wrapper = dict(type='OptimWrapper')
# The best model on the validation images goes to the test (appendix D). Of the others two are kept,
# so that one is whole if a run is killed while it saves.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
# A fixed seed makes a run repeatable. The paper averages five: tools/experiments/run.py.
randomness = dict(seed=0)
