"""Original checkpoints in, house tokenizers out."""

from audiotokens.checkpoints.conversion import convert, fold_weight_norm

__all__ = ["convert", "fold_weight_norm"]
