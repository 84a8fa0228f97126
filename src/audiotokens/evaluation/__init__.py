"""How good a tokenizer is: measures, intervals, bit rates from bytes written, speed, use of the books."""

from audiotokens.evaluation.cache import default_folder
from audiotokens.evaluation.compare import compare, default_prefixes
from audiotokens.evaluation.files import AudioFile, find_files
from audiotokens.evaluation.measures import JUDGES
from audiotokens.evaluation.metrics import (
    EVALUATION_RATE,
    METRICS,
    Measured,
    Metric,
    get_metrics,
    register,
)
from audiotokens.evaluation.results import (
    BookUsage,
    Comparison,
    Difference,
    FileRecord,
    OperatingPoint,
    Point,
    Reference,
    Row,
    Summary,
    Table,
)
from audiotokens.evaluation.statistics import Interval, mean_interval, paired_interval
from audiotokens.evaluation.systems import Named
from audiotokens.evaluation.tables import format_table
from audiotokens.evaluation.usage import UsageCounter

__all__ = [
    "EVALUATION_RATE",
    "JUDGES",
    "METRICS",
    "AudioFile",
    "BookUsage",
    "Comparison",
    "Difference",
    "FileRecord",
    "Interval",
    "Measured",
    "Metric",
    "Named",
    "OperatingPoint",
    "Point",
    "Reference",
    "Row",
    "Summary",
    "Table",
    "UsageCounter",
    "compare",
    "default_folder",
    "default_prefixes",
    "find_files",
    "format_table",
    "get_metrics",
    "mean_interval",
    "paired_interval",
    "register",
]
