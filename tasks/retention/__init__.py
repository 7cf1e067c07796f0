"""How long things are kept, and how they go.

removal    takes something away in two steps that anybody can finish: first its record, then its bytes
sweeper    removes what has reached the age its project keeps it to, a bounded share at a time
"""
