"""Published networks as their authors released them, for weights that a user has: graphs, widths and names.

Written from descriptions of the released code; without a file they are built with random weights, to be timed.
"""
