"""Codec families, one file each: configuration, modules, named variants."""
