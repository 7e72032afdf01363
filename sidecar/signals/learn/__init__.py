"""What may be learned, and from whom: trust, feedback, history, challengers, what came true."""
