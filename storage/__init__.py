"""Artifacts: table schemas, content-addressed data with manifests, leases, catalog, model files and export."""
