"""What stands where the deployed system has its own package, for stock `rq worker` processes."""
