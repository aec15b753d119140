"""One client per source of tables: plain functions without Prefect."""
