"""Networks that runs train: LeNet, its normalization layers and its pooling.

Reading order: ``norm`` (batch normalization and its relatives), ``lenet``,
``pooling``.
"""
