"""The cluster: which nodes there are, what is where among them, and calls from one to another."""
