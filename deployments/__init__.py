"""How flows are run: the command line, the embedded server, deployments and Dask profiles."""
