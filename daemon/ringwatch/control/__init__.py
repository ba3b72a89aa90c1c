"""From a decision to an acquisition that has ended: whoever owns the detector is told, once a series."""
