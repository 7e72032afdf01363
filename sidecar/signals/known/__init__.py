"""What is known at one tick and told: the snapshot, the exposition, charts, the record of what came true."""
