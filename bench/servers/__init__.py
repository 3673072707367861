"""The servers that are measured; each is run as a program."""
