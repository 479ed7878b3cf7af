"""What the live view is made of. Widgets are given data, and speak by messages; none of them calls an operation."""
