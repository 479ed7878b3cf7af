"""Sample orders, logs, tasks and sites for the demo stack."""
