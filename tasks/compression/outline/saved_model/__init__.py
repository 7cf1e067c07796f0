"""SavedModels as strangers send them: an archive, read without TensorFlow and without running anything of it.

members      what the archive may hold, and nothing else
wire         protocol buffers, field by field
program      the graph: its functions, signatures and assets, each operation against a list
operators    that list
bundle       the checkpoint beside it: which variables there are, and their values
network      the Keras network that it was saved from, where its configuration is in the file
reading      all of that together
"""
