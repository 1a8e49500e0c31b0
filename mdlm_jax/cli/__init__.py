"""The command line. It reads arguments, calls the room that does the work, and turns errors into exit codes."""
