"""How to reach it: one module per outside system; its driver's exceptions never leave it."""
