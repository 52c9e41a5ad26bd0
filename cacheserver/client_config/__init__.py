"""What points clients at a node: policies and DHCP options as text for the tools that carry them.

Pure renderers, one module per family; nothing here reads a file, a clock or the network.
"""
