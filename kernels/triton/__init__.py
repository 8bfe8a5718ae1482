"""The hot loops as fused Triton kernels; the torch reference of each stands one folder up.

`kernels.device` says when they run. Nothing here is imported before that: Triton takes a tenth of a second to import
and is not everywhere.
"""
