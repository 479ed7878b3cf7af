"""The machine sitegenctl runs on: threads, processes, HTTP, local state."""
