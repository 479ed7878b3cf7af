"""How it is shown: tables, JSON, CSV, ages and colours. Knows the domain alone."""
