"""The deployed MoD block: one operator, in C++ for CPUs and in Triton for CUDA."""

from .deployed_block import DeployedMoDBlock, log_once
from .folding import fold_batch_norms
from .operator import operator_problem

__all__ = ['DeployedMoDBlock', 'fold_batch_norms', 'log_once', 'operator_problem']
