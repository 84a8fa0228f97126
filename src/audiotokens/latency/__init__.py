"""How late a tokenizer is: what its spec declares, what perturbation finds, and how long its steps take.

Samples are counted at the input rate, from the end of a frame's own hop: a look-ahead of 0 means that a frame
is final as soon as its last sample is in.
"""

from audiotokens.latency.measured import Latency, Steps, StepTimes, measure_latency, measure_steps
from audiotokens.latency.probe import Delay, Field

__all__ = ["Delay", "Field", "Latency", "StepTimes", "Steps", "measure_latency", "measure_steps"]
