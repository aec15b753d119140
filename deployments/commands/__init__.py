"""The commands of `elemscreen`, grouped by what they are about."""
