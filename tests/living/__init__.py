"""Live workers under operators who never rest: what one order's runs do while `repair` and `maintain` run every second.

`deployed_worker` is the deployed kind of worker, without a run lock; `system` starts servers, workers and operators;
`runs` is the workers' own record of what they generated, which sitegenctl has no part in.
`python -m tests.living.table` prints the figures of every situation.
"""
