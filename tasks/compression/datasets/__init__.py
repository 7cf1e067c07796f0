"""Data sets of every format, as the arrays an ``.npz`` would have: ``x`` and ``y``, or ``x_train`` and so on.

    magic        what a file is, by its first bytes
    opened       a file of any format, opened: the table of readers
    samplefile   samples written to the scratch as they are decoded, and mapped into memory
    classes      names put in order and given numbers
    tables       .csv (csv_file) and .parquet (parquet_file)
    folders      zip and tar archives (archives) of images (images) in class folders
    records      TFRecord files (recordframes) of tf.train.Example (example)

Files are read in pieces, archives member by member: nothing is ever unpacked to a name that a file chose.
Importing this package loads no library that reads.
"""
