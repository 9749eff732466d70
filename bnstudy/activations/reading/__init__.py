"""How a tensor's sums are taken and where its numbers wait: private to ``activations``.

Three readers answer the same questions about one tensor (see :mod:`reader`):
:mod:`compiled` for float32 on a CPU, :mod:`plain` for everything else there, :mod:`device`
for accelerators.  :mod:`tensor` picks one, :mod:`measurements` keeps the numbers.
"""
