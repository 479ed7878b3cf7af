"""What doctor checks: facts, checks and judgments."""
