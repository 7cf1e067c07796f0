"""Archives of ``torch.export.save``, judged without PyTorch: what a loader may see of them.

    read_program(path)    the checked program; CompressionError for what no loader may see

    archive       the zip archive's members
    program       the program's JSON, checked and written anew    schema    what a value may be
    arguments     what operators may be given    operators    which of them there may be
    expressions   sizes that depend on the batch
    tensors       the weights' descriptions, against their bytes

Loading such an archive runs code in several ways: pickles, expressions that are evaluated, names that go
into generated source, operators that read files. So nothing of it is passed on but what is on a list here,
and what is passed on is put together anew.
"""

from __future__ import annotations

from tasks.compression.exported.archive import read_program
from tasks.compression.exported.program import Program, Weight

__all__ = ["Program", "Weight", "read_program"]
