"""What Prometheus answers: samples as columns, series and their labels, who calls whom, what changed."""
