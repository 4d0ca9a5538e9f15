# FCN-R18-MoD on CamVid, a schedule for a GPU. Scores are those on the test split: train and val
# share a sequence.
_base_ = '../fcn_r18-mod_camvid.py'

train_dataloader = dict(batch_size=8, num_workers=8)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(data_prefix=dict(img_path='images/test', seg_map_path='labels/test')),
)
train_cfg = dict(max_iters=8000, val_interval=1000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=200, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=1e-5, begin=200, end=8000, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=1000, max_keep_ckpts=2, save_optimizer=True)
)
