"""What can go wrong with a simulated detector that is told to stop."""

from typing import Literal, get_args

Fault = Literal["cancel-refused", "cancel-ignored", "disarm-ignored", "abort-ignored", "slow", "end-lost"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
