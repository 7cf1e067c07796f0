-- ARGV: project, id, bytes. Counts them whatever the project may store.
keep_bytes(ARGV[1], ARGV[2], tonumber(ARGV[3]))
