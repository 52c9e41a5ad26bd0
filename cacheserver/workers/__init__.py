"""More than one process behind one port: the owner does everything, its workers answer warm hits beside it.

Owns: who gets a connection, what a worker is lent, and how the two speak. Store, fills, admission and settings stay in
the one process that owns them, so that a piece is fetched once in the whole node (I2) by construction.
"""
