"""Client configuration: policies and DHCP options as text. Pure: reads no file, no clock and no network."""
