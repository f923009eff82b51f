"""Workstation side of kws-edge: datasets, training, quantisation, evaluation. Needs the ``[host]`` extra."""
