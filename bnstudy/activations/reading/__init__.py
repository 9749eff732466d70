"""Reading the sums of tensors, and keeping the numbers: private to ``activations``.

Three readers answer the same questions about one tensor (see :mod:`reader`):
:mod:`compiled_reader` for float32 on a CPU, with the :mod:`compiled_functions`;
:mod:`numpy_reader` for everything else there; :mod:`device_reader` for accelerators.
:mod:`tensor` picks one, :mod:`measurements` keeps the numbers.
"""
