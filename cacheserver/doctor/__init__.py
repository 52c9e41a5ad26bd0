"""The doctor: looks at a node and its surroundings and says what is wrong and what to do.

One module per group of checks; ``run`` runs them all at once. Changes nothing but a sample file on each volume, which
has no name and is gone at once. Every check ends by a deadline, whatever hangs.
"""
