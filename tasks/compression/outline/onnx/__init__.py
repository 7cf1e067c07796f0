"""ONNX files, read without ONNX's own library and without anything of them being run.

reading     from a file to its outline
judging     what is refused of a file that can be read     (operators)
message     the file as nodes, constants and values; every field is one that is known and said once
wire        protocol buffers, field by field, by the type that each has
shapes      what shapes the tensors between the nodes have    shape_rules, size_values
macs        multiply-accumulates of a node
"""
