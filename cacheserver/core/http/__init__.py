"""HTTP as RFC 9110 defines it: fields, ranges, conditions, dates. Pure."""
