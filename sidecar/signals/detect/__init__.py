"""What is odd: a block of rows with all that is known of them, and groups of series."""
