"""Reading a file: well-formed, complete, one dialect. :mod:`graph_tools.model` puts the steps together."""
