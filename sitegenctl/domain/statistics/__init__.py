"""Statistics, throughput, failure reasons and metrics."""
