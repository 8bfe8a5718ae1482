"""Pieces on which the network is affine, settled by one program or in whole numbers."""
