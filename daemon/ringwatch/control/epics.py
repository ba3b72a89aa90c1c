"""A stop order in, a process variable set to 0 over Channel Access: areaDetector's Acquire."""

from ringwatch.control.order import Order
from ringwatch.errors import ControlError, NoAnswer
from ringwatch.extras import extra


class ProcessVariable:
    """Sets a process variable to 0. Where to look for it: EPICS_CA_ADDR_LIST and its like, as for every EPICS client.

    Parameters
    ----------
    name
        Such as BL12:EIG:cam1:Acquire.
    timeout_s
        Longest wait to find it, and then for the confirmation.

    Raises
    ------
    ConfigError
        caproto is not installed.
    """

    via = "epics"

    def __init__(self, name: str, timeout_s: float) -> None:
        self.whom, self._timeout_s = name, timeout_s
        self._client = extra("caproto.sync.client", "epics", 'stop.via = "epics"')

    def deliver(self, order: Order) -> str:
        """Set it once; see `Messenger`."""
        try:
            self._client.write(self.whom, [0], notify=True, timeout=self._timeout_s, repeater=False)
        except TimeoutError as error:  # caproto's is one
            raise NoAnswer(f"{self.whom} was not found or gave no answer within {self._timeout_s:g} s") from error
        except (self._client.CaprotoError, OSError) as error:
            raise ControlError(f"it could not be set to 0: {error}") from error
        return f"{self.whom} was set to 0."
