"""Tokenizers that other packages keep, behind the interface of this one."""
