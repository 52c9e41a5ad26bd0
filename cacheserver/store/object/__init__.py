"""One object's file: layout, pieces, residency, quarantine."""
