"""Plans of the techniques that are the same on every framework: what differs are the kinds of layers."""
