"""Measures by models of others, each in an extra of its own; together they are the group "judges"."""

from audiotokens.evaluation.measures import opinion, pitch, recognition, speaker, visqol
from audiotokens.evaluation.metrics import Metric, register

JUDGES: tuple[Metric, ...] = (
    *visqol.METRICS,
    *opinion.METRICS,
    *speaker.METRICS,
    *recognition.METRICS,
    *pitch.METRICS,
)
"""All of them, registered."""

for _judge in JUDGES:
    register(_judge)
