"""One file per stage: a Prefect task that reads artifacts, calls the science, and writes one artifact."""
