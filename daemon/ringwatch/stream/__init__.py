"""From the wire to messages: decoders, the series table, the receiver, the simulator and replay."""
