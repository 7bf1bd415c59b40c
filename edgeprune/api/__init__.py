"""The Python API: functions with plain arguments, which the command line calls too. Nothing heavy is imported here."""
