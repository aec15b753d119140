"""The science as plain functions and networks: arrays and tables in, arrays and tables out; nothing is written."""
