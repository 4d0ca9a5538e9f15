"""``python -m mmcnnmod.ops``: compile the operator of deployed MoD blocks, unless it exists."""

from .operator import library_path, operator_problem

problem = operator_problem()
if problem is None:
    print(f'The operator for deployed MoD blocks is ready: {library_path()}')
else:
    print(f'Deployed MoD blocks will run in plain PyTorch, without their operator: {problem}')
