"""What steps will do to models whose files tell it. Imports no framework."""
