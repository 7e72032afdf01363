"""What belongs to a diagnosis: what is usual and what moved of late, of whatever has a place."""
