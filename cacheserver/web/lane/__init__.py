"""The fast lane: warm hits without the framework."""
