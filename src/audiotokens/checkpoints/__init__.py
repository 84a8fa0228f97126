"""Original checkpoints in, house tokenizers out."""

from audiotokens.checkpoints.conversion import Match, MismatchError, convert, fold_weight_norm, match
from audiotokens.checkpoints.importing import Imported, describe_match, import_checkpoint, run_import

__all__ = [
    "Imported",
    "Match",
    "MismatchError",
    "convert",
    "describe_match",
    "fold_weight_norm",
    "import_checkpoint",
    "match",
    "run_import",
]
