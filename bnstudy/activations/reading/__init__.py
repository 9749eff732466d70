"""Reading the sums of tensors, and keeping the numbers: private to ``activations``.

Three readers answer the same questions about one tensor (see :mod:`reader`):
:mod:`compiled` for float32 on a CPU, with the functions of :mod:`kernel`; :mod:`plain`
for everything else there; :mod:`device` for accelerators.  :mod:`tensor` picks one,
:mod:`measurements` keeps the numbers.
"""
