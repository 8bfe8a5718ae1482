"""One file for each command of `partita`: its arguments, and the call that answers them.

Each has `run(argv)`, which returns the exit code. Like `cli`, they import nothing heavy before the arguments are known
to be sound.
"""
