"""What comes next: how a series moves, intervals, fitted models beside the experts."""
