"""Architectures that squeeze images into codes, and draw images from them."""
