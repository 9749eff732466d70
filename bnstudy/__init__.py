"""bnstudy: find out by experiment what batch normalization really does.

Reading order for a newcomer: ``norm``, ``lenet``, ``training``, then
``experiments/convergence``.
"""

__version__ = "0.1.0"
